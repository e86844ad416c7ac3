//! A tagger: a class for each word of a sentence, read in both directions.

use crate::flow::{Flow, FlowModule};
use crate::layers::{Embedding, LSTM, Linear, RecurrentConfig, embedding, linear};
use crate::path::Path;

/// Words to vectors, an LSTM in both directions, vectors to tags.
#[derive(Debug)]
pub struct LstmTagger {
    /// A vector for each word.
    pub word_embeddings: Embedding,
    /// In both directions.
    pub lstm: LSTM,
    /// To the tags.
    pub hidden2tag: Linear,
}

/// Makes a [`LstmTagger`] for so many words and tags, with vectors of `embedding_dim` numbers and states of `hidden_dim` in
/// each direction. Shape: `[n, time]` of `Kind::Int64` to `[n, time, tags]`.
///
/// ```
/// use lightcell::prelude::*;
/// use lightcell::models::lstm_tagger;
/// let store = Store::new(Device::Cpu);
/// let net = lstm_tagger(store.root(), 100, 16, 32, 5);
/// let words = Tensor::from_slice(&[3i64, 99, 0, 7, 7, 1]).view([2, 3]);
/// assert_eq!(net.forward(&words).size(), [2, 3, 5]);
/// ```
pub fn lstm_tagger(path: Path, words: i64, embedding_dim: i64, hidden_dim: i64, tags: i64) -> LstmTagger {
    path.module("LSTMTagger");
    let lstm = RecurrentConfig::new(embedding_dim, hidden_dim);
    LstmTagger {
        word_embeddings: embedding(&path / "word_embeddings", words, embedding_dim),
        lstm: lstm.batch_first().bidirectional().lstm(&path / "lstm"),
        hidden2tag: linear(&path / "hidden2tag", 2 * hidden_dim, tags),
    }
}

impl FlowModule for LstmTagger {
    fn flow<F: Flow>(&self, f: &mut F, x: &F::Value) -> F::Value {
        let x = f.embedding(&self.word_embeddings, x);
        let x = f.lstm(&self.lstm, &x);
        f.linear(&self.hidden2tag, &x)
    }
}
