//! Writes the reference pages of the book, `docs/reference/*.md`, from the code: `make reference`.

use std::path::Path;

fn main() -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference");
    std::fs::create_dir_all(&folder)?;
    for (name, page) in eva_rl::reference::pages() {
        std::fs::write(folder.join(name), page)?;
    }
    Ok(())
}
