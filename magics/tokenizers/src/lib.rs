//! Texts as tokens for the training library, by Hugging Face's `tokenizers`: those that models are published with
//! (`tokenizer.json`), and new ones learnt from a text. A crate of its own, as what it stands on takes long to compile: a
//! notebook adds it with `%dep lightcell-tokenizers`.
//!
//! A text file becomes a dataset by [`Tokenizer::tokens`] of its lines, whose batches are filled up to the longest, or by
//! [`Tokenizer::encode_file`], whose tokens `TokenWindows` cuts into windows for a language model.

mod tokenizer;
mod tokens;
mod train;

pub use tokenizer::Tokenizer;
pub use tokens::Tokens;
pub use train::BpeTrainer;

use lightcell::{Error, ErrorKind};

/// What `tokenizers` said, in one line.
fn said(error: ::tokenizers::Error) -> Error {
    let text = error.to_string();
    Error::new(ErrorKind::Data, text.lines().next().unwrap_or_default().trim())
}

#[cfg(test)]
mod tests;
