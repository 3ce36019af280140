//! States as one token: the sum of what is made of their numbers, their text and their image.

use tch::{Kind, Tensor};

use super::image::ImageEncoder;
use super::text::TextEncoder;
use crate::adapter::site::ModuleName;
use crate::model::core::forward::ForwardContext;
use crate::model::core::inputs::Inputs;
use crate::model::core::layers::Module;

/// The encoders of a state's parts, at least one.
#[derive(Debug)]
pub struct ObservationEncoder {
    /// Of its numbers; one-hot vectors among them make the layer a table.
    pub numbers: Option<Module>,
    /// Of its text.
    pub text: Option<TextEncoder>,
    /// Of its image.
    pub image: Option<ImageEncoder>,
}

impl ObservationEncoder {
    /// The states of every step: `[B, T, D]`.
    pub fn forward(&self, context: &mut ForwardContext, inputs: &Inputs) -> Tensor {
        let numbers = self.numbers.as_ref().map(|module| context.project(module, &inputs.states));
        let text = self.text.as_ref().map(|encoder| {
            encoder.forward(context, inputs.words.as_ref().expect("a policy that reads texts is given them"))
        });
        let image = self.image.as_ref().map(|encoder| {
            let images = inputs.images.as_ref().expect("a policy that reads images is given them");
            match images.kind() {
                Kind::Uint8 => encoder.forward(context, images),
                _ => images.shallow_clone(), // embedded before
            }
        });
        let parts = [numbers, text, image].into_iter().flatten();
        parts.reduce(|sum, part| sum + part).expect("a state has at least one part")
    }

    /// Whether this module reads what the policy is given, rather than another module's output.
    pub fn reads_inputs(&self, module: &ModuleName) -> bool {
        let first = self.image.as_ref().and_then(|image| image.convolutions.first());
        self.numbers.as_ref().is_some_and(|numbers| numbers.name == *module)
            || first.is_some_and(|first| first.name == *module)
    }

    /// Whether this module is one of its encoders'.
    pub fn holds(&self, module: &ModuleName) -> bool {
        let is = |other: &Module| other.name == *module;
        self.numbers.as_ref().is_some_and(is)
            || self.text.as_ref().is_some_and(|text| is(&text.hidden) || is(&text.projection))
            || self.image.as_ref().is_some_and(|image| {
                is(&image.projection) || image.convolutions.iter().any(|one| one.name == *module)
            })
    }
}
