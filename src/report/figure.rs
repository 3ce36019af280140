//! Learning curves as one picture: a panel per task, a line per group, SVG and PNG.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use epaint_default_fonts::UBUNTU_LIGHT;
use maud::{Markup, html};
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree, fontdb};

use super::axis::Axis;
use super::comparison::{Comparison, Measure};
use super::panel::{Panel, Shown, marker, px};
use super::series::styles;

/// Size of a panel where there are several, and of a single one.
const PANEL: (f64, f64) = (430.0, 330.0);
const SINGLE: (f64, f64) = (760.0, 420.0);

/// Width of a letter of 12 pixels, about.
const LETTER: f64 = 6.4;

/// Height of a line of the legend and of the caption.
const LINE: f64 = 19.0;

/// Pixels of the PNG for each of the SVG.
const SCALE: f32 = 2.0;

/// Writes `curves.svg` and `curves.png` into a folder, and says what they show.
pub fn draw(comparison: &Comparison, measure: Measure, axis: Axis, folder: &Path) -> anyhow::Result<String> {
    let (svg, shown) = svg(comparison, measure, axis);
    std::fs::write(folder.join("curves.svg"), &svg)?;
    std::fs::write(folder.join("curves.png"), png(&svg)?)?;
    Ok(caption(shown))
}

/// The whole picture, and what it shows.
fn svg(comparison: &Comparison, measure: Measure, axis: Axis) -> (String, Shown) {
    let styles = styles(comparison);
    let count = comparison.tasks.len();
    let size = if count == 1 { SINGLE } else { PANEL };
    let columns = count.min(3);
    let mut shown = Shown::default();
    let panels: Vec<Markup> = comparison
        .tasks
        .iter()
        .enumerate()
        .map(|(index, (title, groups))| {
            let (panel, has) =
                Panel { title, groups, styles: &styles, measure, axis, size, index }.draw(false);
            shown = shown.or(has);
            let (x, y) = ((index % columns) as f64 * size.0, (index / columns) as f64 * size.1);
            html! { g transform={"translate(" (px(x)) " " (px(y)) ")"} { (panel) } }
        })
        .collect();
    let width = columns as f64 * size.0;
    let under = count.div_ceil(columns) as f64 * size.1 + 10.0;
    let names: Vec<(String, &str)> =
        styles.keys().map(|method| (format!("{method} ({})", runs(comparison, method)), *method)).collect();
    let longest = names.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0) as f64;
    let entry = 56.0 + LETTER * longest;
    let in_row = ((width - 30.0) / entry).floor().max(1.0) as usize;
    let caption = wrapped(&caption(shown), ((width - 40.0) / 5.3) as usize);
    let below = under + LINE * names.len().div_ceil(in_row) as f64 + 14.0;
    let height = below + (LINE - 3.0) * caption.len() as f64 + 4.0;
    let picture = html! {
        svg xmlns="http://www.w3.org/2000/svg" width=(px(width)) height=(px(height)) viewBox={"0 0 " (px(width)) " " (px(height))} font-family="sans-serif" fill="#222" {
            rect width="100%" height="100%" fill="white" {}
            @for panel in &panels { (panel) }
            @for (index, (name, method)) in names.iter().enumerate() {
                @let (x, y) = (20.0 + entry * (index % in_row) as f64, under + LINE * (index / in_row) as f64 + 6.0);
                @let style = &styles[method];
                line x1=(px(x)) x2=(px(x + 34.0)) y1=(px(y)) y2=(px(y)) stroke=(style.colour) stroke-width="2" stroke-dasharray=[style.dash] {}
                (marker(style, x + 17.0, y))
                text x=(px(x + 42.0)) y=(px(y + 4.0)) font-size="12" { (name) }
            }
            @for (index, line) in caption.iter().enumerate() {
                text x="20" y=(px(below + 8.0 + (LINE - 3.0) * index as f64)) font-size="11" fill="#555" { (line) }
            }
        }
    };
    (picture.into_string(), shown)
}

/// How many runs a group has: "3 runs", "2 to 3 runs".
pub fn runs(comparison: &Comparison, method: &str) -> String {
    let counts: BTreeSet<usize> = comparison
        .tasks
        .values()
        .filter_map(|groups| groups.get(method))
        .map(|group| group.curves.len())
        .collect();
    match (counts.first(), counts.last()) {
        (Some(1), Some(1)) => "1 run".to_owned(),
        (Some(least), Some(most)) if least < most => format!("{least} to {most} runs"),
        (_, most) => format!("{} runs", most.unwrap_or(&0)),
    }
}

/// What the picture shows, in sentences.
pub fn caption(shown: Shown) -> String {
    let mut text =
        "Lines are means over runs that differ in nothing but the seed; marks are evaluations.".to_owned();
    if shown.bands {
        text += " Bands go from the lowest run to the highest.";
    }
    if shown.online {
        text += " From the dotted vertical line on, training continues online.";
    }
    if shown.env_steps {
        text += " Offline updates take no environment steps: at 0 is the last evaluation before any.";
    }
    if shown.cut {
        text += " Curves that begin outside of the axis say where.";
    }
    if shown.apart {
        text += " Lines that would coincide are drawn side by side.";
    }
    text
}

/// A text in lines of at most so many letters.
fn wrapped(text: &str, most: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= most => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// The picture in pixels, with letters that are the same on every machine.
pub fn png(svg: &str) -> anyhow::Result<Vec<u8>> {
    let mut fonts = fontdb::Database::new();
    fonts.load_font_data(UBUNTU_LIGHT.to_vec());
    let family = fonts.faces().next().and_then(|face| Some(face.families.first()?.0.clone()));
    fonts.set_sans_serif_family(family.context("the figures' font cannot be read")?);
    let options = Options { fontdb: Arc::new(fonts), ..Options::default() };
    let tree = Tree::from_str(svg, &options)?;
    let size = tree.size();
    let (width, height) = ((SCALE * size.width()).ceil() as u32, (SCALE * size.height()).ceil() as u32);
    let mut pixels = Pixmap::new(width, height).context("a picture has at least one pixel")?;
    resvg::render(&tree, Transform::from_scale(SCALE, SCALE), &mut pixels.as_mut());
    Ok(pixels.encode_png()?)
}

#[cfg(test)]
mod tests {
    use super::super::table::tests::{Runs, comparison};
    use super::*;

    #[test]
    fn a_picture_says_what_it_shows() {
        let runs: [Runs; 3] = [
            ("a", "EVA, rank 4", &[(0.0, 1.0), (0.0, 3.0)]),
            ("a", "LoRA, rank 4", &[(0.0, 2.0)]),
            ("b", "EVA, rank 4", &[(0.0, 1.0)]),
        ];
        let (found, _) = svg(&comparison(&runs), Measure::Return, Axis::Updates);
        for text in ["EVA, rank 4 (1 to 2 runs)", "LoRA, rank 4 (1 run)", "Bands go from the lowest run"] {
            assert!(found.contains(text), "{text:?}: {found}");
        }
        assert!(!found.contains("continues online"), "{found}");
    }

    #[test]
    fn a_png_has_twice_the_pixels_and_its_letters_are_drawn() {
        let runs: [Runs; 1] = [("FaucetClose", "EVA", &[(0.0, 1.0)])];
        let (found, _) = svg(&comparison(&runs), Measure::Return, Axis::Updates);
        let letters = png(&found).unwrap();
        let pixels = Pixmap::decode_png(&letters).unwrap();
        assert_eq!(pixels.width(), 2 * SINGLE.0 as u32);
        let without = png(&found.replace("FaucetClose", "")).unwrap();
        assert_ne!(letters, without);
    }
}
