//! Each flag of the magics for models reaches the library: none is silently of no use.

use lightcell::{LrFind, ScaleBatchSize, Trainer};
use lightcell_magics::{Call, FitCall, Flag, Kind, Magic, ModelCall, Piece, TABLE, split};
use serde_json::Value;

/// A value other than the library's default.
fn sample(kind: Kind) -> &'static str {
    match kind {
        Kind::Switch | Kind::Alone => "",
        Kind::Count | Kind::Int => "7",
        Kind::CountOrNone => "none",
        Kind::Number | Kind::Numbers | Kind::Real => "0.25",
        Kind::Limit => "3",
        Kind::Bool => "false",
        Kind::Time => "00:00:01:00",
        Kind::Schedule => "0:8,4:1",
        Kind::OneOf(words) => words[words.len() - 1],
        Kind::SomeOf(words) => words[0],
        Kind::Text => "text",
    }
}

fn written(flag: &Flag) -> String {
    format!(" {} {}", flag.name, sample(flag.kind))
}

fn read(magic: &Magic, flags: &str) -> Call {
    let line = format!("%{} Net data{flags}", magic.name);
    match split(&line) {
        Ok(pieces) => match &pieces[..] {
            [Piece::Magic(call)] => call.clone(),
            other => panic!("{line}: {other:?}"),
        },
        Err(error) => panic!("{line}: {error}"),
    }
}

fn trainer(options: serde_json::Map<String, Value>) -> Trainer {
    let json = Value::Object(options).to_string();
    Trainer::from_json(&json).unwrap_or_else(|error| panic!("{json}: {error}"))
}

/// Lines with and without each flag of a magic; both have what the flag needs.
fn pairs(magic: &'static Magic) -> impl Iterator<Item = (&'static Flag, Call, Call)> {
    // What stands alone is no setting of a run.
    let flags = magic.flags.iter().filter(|flag| flag.kind != Kind::Alone);
    flags.map(move |flag| {
        let need = flag
            .needs
            .first()
            .and_then(|need| magic.flags.iter().find(|flag| flag.name == *need));
        let without = need.map_or(String::new(), written);
        let with = format!("{without}{}", written(flag));
        (flag, read(magic, &without), read(magic, &with))
    })
}

fn magic(name: &str) -> &'static Magic {
    lightcell_magics::magic(name).unwrap()
}

#[test]
fn each_flag_of_fit_reaches_the_trainer() {
    let mut count = 0;
    for (flag, without, with) in pairs(magic("fit")) {
        let made = |call| trainer(FitCall::from_call(&call).unwrap().options);
        assert_ne!(made(without), made(with), "{}", flag.name);
        count += 1;
    }
    assert!(count > 60, "{count}");
}

#[test]
fn each_flag_of_the_other_magics_reaches_trainer_or_search() {
    for magic in TABLE
        .iter()
        .filter(|magic| magic.arguments == ["MODEL", "DATA"] && magic.name != "fit")
    {
        for (flag, without, with) in pairs(magic) {
            let made = |call: &Call| {
                let call = ModelCall::from_call(call).unwrap();
                let search = Value::Object(call.search);
                let search = match magic.name {
                    "lr_find" => format!("{:?}", serde_json::from_value::<LrFind>(search).unwrap()),
                    "scale_batch_size" => format!("{:?}", serde_json::from_value::<ScaleBatchSize>(search).unwrap()),
                    _ => search.to_string(),
                };
                (trainer(call.trainer), search, call.restart)
            };
            assert_ne!(made(&without), made(&with), "%{} {}", magic.name, flag.name);
        }
    }
}
