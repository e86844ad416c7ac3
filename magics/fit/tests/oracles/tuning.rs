//! Row 7: the search for a learning rate, against what PyTorch Lightning 2.6.1 finds with the same model and data; `tuner.py`
//! beside this file wrote `tuner.json`.

use super::*;
use serde_json::json;

#[test]
fn oracle_07_rates_losses_and_suggestion_are_lightnings() {
    let _turn = in_turn();
    let golden: Value = serde_json::from_str(&std::fs::read_to_string(file("tuner.json")).unwrap()).unwrap();
    for case in golden.as_array().unwrap() {
        let about = format!("{} {}", case["optimizer"], case["settings"]);
        let mut settings = case["settings"].clone();
        settings["update_attr"] = json!(false);
        let settings: LrFind = serde_json::from_value(settings).unwrap();
        let hp = Hp {
            optimizer: case["optimizer"].as_str().unwrap().to_owned(),
            ..Hp::default()
        };
        let mut net = Net::build(hp).unwrap();
        let data = in_order(samples(256, 20, 4), 16);
        let tuner = Tuner::new(&trainer().compat(Compat::Lightning));
        let found = tuner.lr_find(&mut net, &data, &settings).unwrap();
        assert_eq!(found.lrs, numbers(&case["lrs"]), "{about}");
        // Lightning goes on when the loss is no number, and leaves such losses out of the suggestion; ours ends there.
        let theirs = numbers(&case["losses"]);
        let losses = largest(
            found
                .losses
                .iter()
                .zip(&theirs)
                .map(|(a, b)| (a - b).abs() / b.abs().max(1.0)),
        );
        assert_eq!(found.losses.len(), theirs.len(), "{about}");
        near(7, "lr_find: losses", losses, 1e-6);
        assert_eq!(found.suggestion(), case["suggestion"].as_f64(), "{about}");
        assert_eq!(
            found.suggestion_idx(),
            case["index"].as_u64().map(|at| at as usize),
            "{about}"
        );
        equal(7, "lr_find: rates, suggestion and its index");
        // The same again: the model and the random state are what they were.
        assert_eq!(tuner.lr_find(&mut net, &data, &settings).unwrap(), found, "{about}");
    }
}
