//! How surprised a language model is.

use super::{Metric, State, metric};
use crate::error::{Error, Kind, Result};
use tch::{Kind as TKind, Tensor};

/// The exponential of the mean negative log-likelihood of the tokens: from how many equally likely ones a model that knows
/// as much would guess.
///
/// ```
/// use lightcell::prelude::*;
/// let perplexity = metrics::Perplexity::new();
/// let logits = Tensor::zeros([2, 3, 10], (Kind::Float, Device::Cpu));
/// perplexity.update(&logits, &Tensor::zeros([2, 3], (Kind::Int64, Device::Cpu)))?;
/// assert!((perplexity.compute()? - 10.0).abs() < 1e-5);
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Perplexity {
    ignore_index: Option<i64>,
    state: State,
}

impl Perplexity {
    /// For logits `[…, vocabulary]` and tokens `[…]`.
    pub fn new() -> Perplexity {
        Perplexity::default()
    }

    /// Tokens of this number, those that fill up, do not count.
    #[must_use]
    pub fn ignore_index(mut self, token: i64) -> Perplexity {
        self.ignore_index = Some(token);
        self
    }

    /// The value over all that was added; NaN, when nothing was.
    ///
    /// # Errors
    /// libtorch's own.
    pub fn compute(&self) -> Result<f64> {
        Metric::compute(self)
    }

    fn added(&self, logits: &Tensor, target: &Tensor) -> Result<()> {
        let (size, wanted) = (logits.size(), target.size());
        let (vocabulary, rest) = size.split_last().unwrap_or((&0, &[]));
        if rest != wanted {
            return Err(Error::new(
                Kind::Shape,
                format!(
                    "logits of {size:?} do not fit tokens of {wanted:?}: they have one dimension more, for the vocabulary"
                ),
            ));
        }
        let logits = logits.f_reshape([-1, *vocabulary])?;
        let target = target.f_reshape([-1])?.f_to_kind(TKind::Int64)?;
        let likely = logits.f_to_kind(TKind::Float)?.f_log_softmax(-1, TKind::Float)?;
        let (likely, target) = match self.ignore_index {
            Some(ignored) => {
                let kept = target.f_ne(ignored)?.f_nonzero()?.f_reshape([-1])?;
                (likely.f_index_select(0, &kept)?, target.f_index_select(0, &kept)?)
            }
            None => (likely, target),
        };
        let said = likely.f_gather(1, &target.f_unsqueeze(1)?, false)?;
        let sum = said.f_sum(TKind::Double)?.f_neg()?.f_reshape([1])?;
        let count = Tensor::f_full([1], target.numel() as f64, (TKind::Double, sum.device()))?;
        self.state.add(&Tensor::f_cat(&[sum, count], 0)?)
    }

    fn value(&self) -> Result<f64> {
        Ok(self.state.numbers()?.map_or(f64::NAN, |sums| (sums[0] / sums[1]).exp()))
    }
}

metric!(Perplexity, sums);
