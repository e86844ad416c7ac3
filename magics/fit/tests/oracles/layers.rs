//! Row 3: weights after a seed, bit by bit; names; and what layers compute, in training and afterwards.

use super::*;
use lightcell::tch;

type Forward = Box<dyn Fn(&Tensor) -> Tensor>;

fn forward(layer: impl tch::nn::Module + 'static) -> Forward {
    Box::new(move |x| layer.forward(x))
}

/// The layers of `make.py`, under its names, with the shapes of their inputs.
fn layer(name: &str, p: Path) -> (Forward, Vec<i64>) {
    match name {
        "linear" => (forward(linear(p, 4, 3)), vec![2, 4]),
        "linear_no_bias" => (forward(Linear::config(4, 3).bias(false).build(p)), vec![2, 4]),
        "conv1d" => (forward(conv1d(p, 2, 3, 3).padding(1).stride(2)), vec![2, 2, 8]),
        "conv2d" => (
            forward(Conv2d::config(4, 6, [3, 2]).groups(2).build(p).dilation([1, 2])),
            vec![2, 4, 6, 6],
        ),
        "conv3d" => (
            forward(Conv3d::config(1, 2, 2).bias(false).build(p)),
            vec![1, 1, 3, 4, 5],
        ),
        "conv_transpose1d" => (
            forward(conv_transpose1d(p, 3, 2, 4).stride(2).padding(1)),
            vec![2, 3, 5],
        ),
        "conv_transpose2d" => {
            let layer = ConvTranspose2d::config(4, 6, 3).groups(2).build(p);
            (forward(layer.stride(2).output_padding(1)), vec![1, 4, 3, 3])
        }
        "batch_norm1d" => (forward(batch_norm1d(p, 3)), vec![6, 3]),
        "batch_norm2d" => (forward(batch_norm2d(p, 3).momentum(0.3)), vec![2, 3, 4, 4]),
        "layer_norm" => (forward(layer_norm(p, &[3, 4])), vec![2, 3, 4]),
        "group_norm" => (forward(group_norm(p, 2, 4)), vec![2, 4, 3]),
        "embedding" => (forward(Embedding::config(5, 3).padding_idx(1).build(p)), Vec::new()),
        "dropout" => (forward(dropout(&p, 0.3)), vec![4, 5]),
        "rnn" => {
            let layer = RecurrentConfig::new(3, 4).bidirectional().rnn(p);
            (Box::new(move |x| layer.forward(x).0), vec![5, 2, 3])
        }
        "lstm" => {
            let config = RecurrentConfig::new(3, 4).num_layers(2).batch_first().dropout(0.2);
            let layer = config.lstm(p);
            (Box::new(move |x| layer.forward(x).0), vec![2, 5, 3])
        }
        "gru" => {
            let layer = RecurrentConfig::new(3, 4).bias(false).gru(p);
            (Box::new(move |x| layer.forward(x).0), vec![5, 2, 3])
        }
        "attention" => {
            let layer = multihead_attention(p, 8, 2);
            (Box::new(move |x| layer.forward(x, x, x)), vec![5, 2, 8])
        }
        "encoder_layer" => {
            let config = TransformerConfig::new(8, 2).dim_feedforward(12).gelu();
            (forward(config.batch_first().norm_first().build(p)), vec![2, 5, 8])
        }
        "encoder" => {
            let config = TransformerConfig::new(8, 2).dim_feedforward(12);
            (
                forward(transformer_encoder(p.clone(), config, 2).norm(p)),
                vec![5, 2, 8],
            )
        }
        "max_pool2d" => (forward(max_pool2d(3).stride(2).padding(1)), vec![1, 2, 7, 6]),
        "avg_pool2d" => (forward(avg_pool2d(2)), vec![1, 2, 6, 6]),
        "adaptive_avg_pool2d" => (forward(adaptive_avg_pool2d(3)), vec![1, 2, 7, 5]),
        "sequential" => {
            let chain = sequential(p)
                .append(|p| linear(p, 4, 5))
                .relu()
                .append(|p| linear(p, 5, 2));
            (forward(chain.build()), vec![3, 4])
        }
        other => panic!("no layer is called {other}"),
    }
}

#[test]
fn oracle_03_weights_after_a_seed_names_and_outputs() {
    let _turn = in_turn();
    let _guard = tch::no_grad_guard();
    let (golden, theirs) = (golden(), tensors("layers.safetensors"));
    for (name, names) in golden["layers"].as_object().unwrap() {
        tch::manual_seed(11);
        let store = Store::new(Device::Cpu);
        let (layer, shape) = layer(name, store.root());
        let list = |names: Vec<(String, Tensor)>| names.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(
            serde_json::json!(list(store.parameters())),
            names["parameters"],
            "{name}"
        );
        assert_eq!(
            serde_json::json!(list(store.state_dict())),
            names["state_dict"],
            "{name}"
        );
        for (key, tensor) in store.state_dict() {
            assert_eq!(tensor, theirs[&format!("{name}/{key}")], "{name}: {key}");
        }
        tch::manual_seed(7);
        let x = if shape.is_empty() {
            Tensor::from_slice2(&[[0i64, 1], [4, 2]])
        } else {
            Tensor::randn(&shape, (Kind::Float, Device::Cpu))
        };
        for (mode, training) in [("train", true), ("eval", false)] {
            store.set_training(training);
            let difference = tensors_apart(&layer(&x), &theirs[&format!("{name}>{mode}")]);
            // The order of sums may be that of another machine.
            near(3, &format!("{name}: outputs"), difference, 1e-5);
        }
        for (key, tensor) in store.state_dict() {
            if let Some(theirs) = theirs.get(&format!("{name}>{key}")) {
                near(3, &format!("{name}: {key}"), tensors_apart(&tensor, theirs), 1e-6);
            }
        }
    }
    equal(3, "weights of all layers after a seed, and their names");
}
