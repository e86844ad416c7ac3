use super::*;
use crate::path::Store;
use tch::nn::Init;
use tch::{Device, Kind, Tensor};

#[test]
fn names_are_pytorchs_and_a_clash_is_an_error() {
    let _turn = crate::tests::in_turn();
    let store = Store::new(Device::Cpu);
    let root = store.root();
    let _first = linear(&root / "fc", 2, 2);
    let _conv = conv2d(&root / "conv", 1, 2, 3).padding(1);
    let mut names: Vec<_> = store.vars.variables().into_keys().collect();
    names.sort();
    assert_eq!(names, ["conv.bias", "conv.weight", "fc.bias", "fc.weight"]);
    let _own = root.parameter("l__2", &[1], Init::Const(0.0));
    assert!(store.check().is_ok());
    let _second = linear(&root / "fc", 2, 2);
    assert_eq!(
        store.check().unwrap_err().message(),
        "two parameters have the same name: fc.bias, fc.weight"
    );
}

#[test]
fn convolution_keeps_the_size_with_padding() {
    let _turn = crate::tests::in_turn();
    let store = Store::new(Device::Cpu);
    let conv = conv2d(store.root() / "c", 1, 4, 3).padding(1);
    let x = Tensor::zeros([2, 1, 8, 8], (Kind::Float, Device::Cpu));
    assert_eq!(conv.forward(&x).size(), [2, 4, 8, 8]);
    assert_eq!(conv.stride(2).forward(&x).size(), [2, 4, 4, 4]);
}

#[test]
fn dropout_drops_in_training_only() {
    let _turn = crate::tests::in_turn();
    let store = Store::new(Device::Cpu);
    let layer = dropout(&store.root(), 0.25);
    let x = Tensor::ones([10_000], (Kind::Float, Device::Cpu));
    assert_eq!(layer.forward(&x), x);
    store.mode.set_training(true);
    let out = layer.forward(&x);
    let kept = out.gt(0.0).to_kind(Kind::Float).mean(Kind::Float).double_value(&[]);
    assert!((kept - 0.75).abs() < 0.02, "{kept}");
    assert!((out.max().double_value(&[]) - 1.0 / 0.75).abs() < 1e-6);
}

#[test]
fn what_a_layer_cannot_be_made_of_is_said_by_the_model() {
    let _turn = crate::tests::in_turn();
    let fault = |make: &dyn Fn(crate::Path)| {
        let store = Store::new(Device::Cpu);
        make(store.root() / "l");
        store.check().unwrap_err().to_string()
    };
    assert_eq!(
        fault(&|p| drop(Conv2d::config(3, 4, 3).groups(2).build(p))),
        "a convolution from 3 to 4 channels cannot have 2 groups\nhint: both numbers of channels must be multiples of the groups"
    );
    assert_eq!(
        fault(&|p| drop(group_norm(p, 4, 6))),
        "6 channels cannot be normalised in 4 groups\nhint: the channels must be a multiple of the groups"
    );
    assert_eq!(
        fault(&|p| drop(multihead_attention(p, 10, 4))),
        "an embed_dim of 10 cannot be divided among 4 heads\nhint: embed_dim must be a multiple of num_heads"
    );
    for layer in [
        fault(&|p| drop(dropout(&p, 1.5))),
        fault(&|p| drop(RecurrentConfig::new(2, 2).dropout(1.5).lstm(p))),
        fault(&|p| drop(TransformerConfig::new(2, 1).dropout(1.5).build(p))),
    ] {
        assert_eq!(
            layer,
            "dropout cannot have the probability 1.5\nhint: it is between 0 and 1"
        );
    }
    assert_eq!(
        fault(&|p| drop(Embedding::config(3, 2).padding_idx(3).build(p))),
        "padding_idx 3 is outside of the table's 3 entries\nhint: entries count from 0"
    );
}

#[test]
fn masks_keep_attention_from_what_they_name() {
    let _turn = crate::tests::in_turn();
    let store = Store::new(Device::Cpu);
    let attention = multihead_attention(store.root() / "a", 8, 2);
    let x = Tensor::randn([4, 3, 8], (Kind::Float, Device::Cpu));
    let close = |a: &Tensor, b: &Tensor| a.allclose(b, 1e-5, 1e-6, false);
    let causal = AttentionMask {
        is_causal: true,
        ..AttentionMask::default()
    };
    let later = Tensor::ones([4, 4], (Kind::Bool, Device::Cpu)).triu(1);
    let masked = AttentionMask {
        attn_mask: Some(&later),
        ..AttentionMask::default()
    };
    let by_causal = attention.forward_masked(&x, &x, &x, causal);
    assert!(close(&by_causal, &attention.forward_masked(&x, &x, &x, masked)));
    // Padding that names nothing changes nothing, with a mask and without.
    let none = Tensor::zeros([3, 4], (Kind::Bool, Device::Cpu));
    for mask in [AttentionMask::default(), causal, masked] {
        let padded = AttentionMask {
            key_padding_mask: Some(&none),
            ..mask
        };
        let plain = attention.forward_masked(&x, &x, &x, mask);
        assert!(close(&plain, &attention.forward_masked(&x, &x, &x, padded)));
    }
    // The last key is not attended to: as if it were not there.
    let last = Tensor::from_slice(&[false, false, false, true]).repeat([3, 1]);
    let padded = AttentionMask {
        key_padding_mask: Some(&last),
        ..AttentionMask::default()
    };
    let short = x.narrow(0, 0, 3);
    let without = attention.forward(&x, &short, &short);
    assert!(close(&without, &attention.forward_masked(&x, &x, &x, padded)));
}

#[test]
fn batch_normalisation_learns_running_values_in_training_only() {
    let _turn = crate::tests::in_turn();
    let store = Store::new(Device::Cpu);
    let layer = batch_norm1d(store.root() / "bn", 2);
    let x = Tensor::full([4, 2], 3.0, (Kind::Float, Device::Cpu));
    let _ = layer.forward(&x);
    assert_eq!(layer.num_batches_tracked.int64_value(&[]), 0);
    store.set_training(true);
    let _ = layer.forward(&x);
    assert_eq!(layer.num_batches_tracked.int64_value(&[]), 1);
    assert!((layer.running_mean.double_value(&[0]) - 0.3).abs() < 1e-6);
    let names: Vec<String> = store.state_dict().into_iter().map(|(name, _)| name).collect();
    assert_eq!(
        names,
        [
            "bn.bias",
            "bn.num_batches_tracked",
            "bn.running_mean",
            "bn.running_var",
            "bn.weight"
        ]
    );
    assert_eq!(store.parameters().len(), 2);
}
