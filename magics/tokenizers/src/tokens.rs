//! Tokens as samples of a dataset.

use lightcell::tch::Tensor;
use lightcell::{Collate, Error, Result};

/// The tokens of a text as a sample. A batch of them is two tensors `[samples, longest]` of `Kind::Int64`: the tokens,
/// filled up at their ends, and a mask that is 1 where a token is of the text (`input_ids` and `attention_mask` of Hugging
/// Face's models).
///
/// ```
/// use lightcell::prelude::*;
/// use lightcell_tokenizers::BpeTrainer;
/// # let path = std::env::temp_dir().join(format!("lightcell-doc-tokens-{}.txt", std::process::id()));
/// std::fs::write(&path, "to be\nor not to be\n")?;
/// let tokenizer = BpeTrainer::new(300).train_from_files(&[&path])?;
/// let lines = TextDataset::open(&path)?.map(move |line| tokenizer.tokens(&line));
/// let loader = DataLoader::new(lines).batch_size(2).num_workers(1);
/// let (tokens, mask) = loader.epoch(1, 0).next().unwrap()?;
/// assert_eq!(tokens.size(), mask.size());
/// assert!(mask.select(0, 0).sum(Kind::Int64).int64_value(&[]) < tokens.size()[1]);
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// The tokens.
    pub ids: Vec<i64>,
    /// With what a batch fills shorter texts up.
    pub padding: i64,
}

impl Collate for Tokens {
    type Batch = (Tensor, Tensor);

    fn collate(items: Vec<Tokens>) -> Result<(Tensor, Tensor)> {
        let longest = items.iter().map(|item| item.ids.len()).max().unwrap_or(0);
        let (mut ids, mut mask) = (Vec::new(), Vec::new());
        for item in &items {
            let rest = longest - item.ids.len();
            ids.extend(item.ids.iter().copied().chain(std::iter::repeat_n(item.padding, rest)));
            mask.extend(std::iter::repeat_n(1i64, item.ids.len()).chain(std::iter::repeat_n(0, rest)));
        }
        let size = [items.len() as i64, longest as i64];
        let shaped = |numbers: &[i64]| Tensor::from_slice(numbers).f_view(size).map_err(Error::from);
        Ok((shaped(&ids)?, shaped(&mask)?))
    }
}
