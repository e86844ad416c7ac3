//! Parameters that are trained otherwise than the rest, chosen by their names.

use super::not_negative;
use crate::error::Result;

/// Parameters with a learning rate or weight decay of their own (PyTorch's parameter groups).
///
/// Parameters are chosen by name, as in `state_dict`; `*` in a pattern stands for any characters, dots included.
///
/// ```
/// use lightcell::prelude::*;
/// let optim = adamw(1e-3)
///     .group(ParamGroup::new("encoder.*").lr(1e-5))
///     .group(ParamGroup::new("*.bias").weight_decay(0.0));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct ParamGroup {
    pub(crate) pattern: String,
    pub(crate) lr: Option<f64>,
    pub(crate) weight_decay: Option<f64>,
}

impl ParamGroup {
    /// The parameters whose names fit the pattern, with the optimizer's own settings so far.
    pub fn new(pattern: &str) -> ParamGroup {
        ParamGroup {
            pattern: pattern.to_owned(),
            lr: None,
            weight_decay: None,
        }
    }

    /// Sets their learning rate, which the schedule changes as it does the optimizer's.
    #[must_use]
    pub fn lr(mut self, lr: f64) -> ParamGroup {
        self.lr = Some(lr);
        self
    }

    /// Sets their weight decay.
    #[must_use]
    pub fn weight_decay(mut self, decay: f64) -> ParamGroup {
        self.weight_decay = Some(decay);
        self
    }

    pub(crate) fn check(&self) -> Result<()> {
        let of = |what: &str| format!("{what} of group `{}`", self.pattern);
        not_negative(&of("the learning rate"), self.lr.unwrap_or(0.0))?;
        not_negative(&of("weight_decay"), self.weight_decay.unwrap_or(0.0))
    }

    pub(crate) fn fits(&self, name: &str) -> bool {
        name_fits(&self.pattern, name)
    }
}

/// Whether a name fits a pattern, in which `*` stands for any characters.
pub(crate) fn name_fits(pattern: &str, name: &str) -> bool {
    fits(pattern.as_bytes(), name.as_bytes())
}

fn fits(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => (0..=name.len()).any(|taken| fits(rest, &name[taken..])),
        (Some((p, pattern)), Some((n, name))) => p == n && fits(pattern, name),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters() {
        let fits = |pattern: &str, name: &str| ParamGroup::new(pattern).fits(name);
        assert!(fits("*.bias", "encoder.l1.bias"));
        assert!(fits("encoder.*", "encoder.l1.bias"));
        assert!(fits("*l1*", "encoder.l1.bias"));
        assert!(fits("l1.bias", "l1.bias"));
        assert!(!fits("*.bias", "l1.bias_ih"));
        assert!(!fits("l1", "l1.bias"));
        assert!(!fits("", "l1"));
    }
}
