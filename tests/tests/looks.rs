//! Quick looks in a real kernel: what each shows, and what is saved.

use lightcell_tests::{Cell, Kernel, Scratch, python};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// A figure's parts: it is shown as SVG and PNG beside its text.
fn text(cell: &Cell, kind: &str) -> Vec<String> {
    let part = |data: &Value, mime: &str| data[mime].as_str().unwrap_or_default().to_owned();
    let data = cell.all(kind).into_iter().map(|content| &content["data"]);
    let figures = data.filter(|data| !data["image/svg+xml"].is_null()).map(|data| {
        assert!(part(data, "image/svg+xml").trim_end().ends_with("</svg>"), "{data}");
        assert!(part(data, "image/png").starts_with("iVBOR"), "{data}");
        part(data, "text/plain")
    });
    figures.collect()
}

#[test]
fn each_quick_look_is_drawn_and_saved() {
    let scratch = Scratch::new("looks");
    let folder = scratch.0.to_string_lossy().into_owned();
    let mut kernel = Kernel::start();
    // All of them in one cell, and each as the value of a cell is the same display.
    let all = kernel.ok("use lightcell::prelude::*;\n\
         let f = (Kind::Float, Device::Cpu);\n\
         let images = Tensor::linspace(0, 1, 192, f).view([3, 8, 8]);\n\
         let (scores, target) = (Tensor::from_slice(&[0.1f32, 0.4, 0.35, 0.8]), Tensor::from_slice(&[0i64, 0, 1, 1]));\n\
         display(&show(&images));\n\
         display(&show_grid(&images, &[3, 4, 7], &[3, 9, 7]));\n\
         display(&heat_map(&images.get(0)).title(\"weights\"));\n\
         display(&plot(&[2.0, 1.0, 0.5]));\n\
         display(&plot_xy(&[0.1, 0.2], &[1.0, 4.0]));\n\
         display(&plot_lines(&[(\"train\", &vec![3.0, 1.0]), (\"val\", &vec![4.0, 2.0])]));\n\
         display(&scatter(&scores, &target));\n\
         display(&histogram(&scores));\n\
         display(&confusion_matrix(&scores.ge(0.38), &target, &[\"no\", \"yes\"]));\n\
         let curve = roc(&scores, &target).title(\"a curve\");\n\
         curve.clone()");
    let shown = text(&all, "display_data");
    for (text, begin) in shown.iter().zip([
        "image of 8×8, 0.000 to 1.000",
        "3 images of 8×8, 1 wrong: 3, 9 (is 4), 7",
        "weights\nmatrix of 8×8, 0 to 0.3",
        "3 points, 0.5 to 2 █▃▁",
        "2 points, 1 to 4",
        "train: 2 points",
        "4 points, x 0.1 to 0.8, y 0 to 1",
        "",
        "",
    ]) {
        assert!(text.starts_with(begin), "{begin}: {text}");
    }
    assert_eq!(shown.len(), 9, "{shown:?}");
    assert!(shown[8].contains("no   1    1"), "{}", shown[8]);
    let last = text(&all, "execute_result");
    assert!(
        last.len() == 1 && last[0].starts_with("a curve\nAUC 0.750: "),
        "{last:?}"
    );

    // What cannot be drawn is a line in its place; what cannot be saved is an error with the kernel's reason.
    let saved = kernel.ok(&format!(
        "for name in [\"a.svg\", \"b.png\", \"c.txt\", \"d.json\", \"none/a.svg\", \"a.gif\"] {{\n\
             match curve.save(format!(\"{folder}/{{name}}\")) {{ Ok(()) => println!(\"{{name}}\"), Err(e) => println!(\"{{e}}\") }}\n\
         }}\n\
         show(&scores)"
    ));
    let lines: Vec<String> = saved.stdout().lines().map(str::to_owned).collect();
    assert_eq!(lines[..4], ["a.svg", "b.png", "c.txt", "d.json"]);
    assert!(
        lines[4].starts_with("the figure is not saved: ") && lines[4].contains("none/a.svg"),
        "{lines:?}"
    );
    assert!(
        lines[5].ends_with("a figure is saved as .svg, .png, .txt or .json"),
        "{lines:?}"
    );
    assert!(
        saved.value().starts_with("show: an image is [height, width]"),
        "{}",
        saved.value()
    );
    let read = |name: &str| std::fs::read(scratch.0.join(name)).unwrap();
    assert!(String::from_utf8_lossy(&read("a.svg")).contains("a curve"));
    assert!(read("b.png").starts_with(b"\x89PNG"));
    // A program's data are drawn by the command, as the kernel draws them.
    let drawn = std::process::Command::new(lightcell_tests::home().join("bin/lightcell"))
        .arg("draw")
        .arg(scratch.0.join("d.json"))
        .arg(scratch.0.join("e.svg"))
        .output()
        .unwrap();
    assert!(drawn.status.success(), "{drawn:?}");
    assert_eq!(read("e.svg"), read("a.svg"));
}

/// Processes whose command line has a word, by their numbers.
fn processes_with(word: &str) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let names = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(word)
    };
    pids.filter(names).collect()
}

/// The body of a page of a server on this machine.
fn fetch(address: &str, path: &str) -> std::io::Result<String> {
    let mut line = TcpStream::connect(address)?;
    line.set_read_timeout(Some(Duration::from_secs(60)))?;
    write!(
        line,
        "GET {path} HTTP/1.0\r\nHost: {address}\r\nAccept: application/json\r\n\r\n"
    )?;
    let mut text = String::new();
    line.read_to_string(&mut text)?;
    Ok(text
        .split_once("\r\n\r\n")
        .map(|(_, body)| body.to_owned())
        .unwrap_or_default())
}

/// Only a hang reaches it; a busy machine is slow.
const LIMIT: Duration = Duration::from_secs(240);

#[test]
fn tensorboard_shows_what_a_run_has_logged() {
    let scratch = Scratch::new("tensorboard");
    let bin = python().parent().unwrap().to_owned();
    let users = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(std::iter::once(bin).chain(std::env::split_paths(&users))).unwrap();
    let mut kernel = Kernel::start_in(&scratch.0, &[("PATH", path.to_str().unwrap())]);
    let folder = scratch.0.to_string_lossy().into_owned();
    kernel.ok(&format!("%cd {folder}"));
    let none = kernel.err("%tensorboard");
    assert!(none.evalue().ends_with("/lightning_logs"), "{}", none.evalue());
    assert!(
        none.traceback().contains("--logger tensorboard"),
        "{}",
        none.traceback()
    );

    let readme = std::fs::read_to_string(lightcell_tests::file("../README.md")).unwrap();
    let blocks = readme.split("```rust\n").skip(1);
    for block in blocks
        .filter_map(|rest| rest.split_once("```").map(|(code, _)| code))
        .take(2)
    {
        kernel.ok(block);
    }
    kernel.ok("%fit Net data --epochs 2 --seed 1 --logger tensorboard --log-every-n-steps 5");
    let shown = kernel.ok("%tensorboard");
    let data = &shown.all("display_data")[0]["data"];
    let (text, html) = (
        data["text/plain"].as_str().unwrap(),
        data["text/html"].as_str().unwrap(),
    );
    // What to do where the browser does not reach it.
    assert!(text.contains("from another machine first `ssh -L "), "{text}");
    assert!(
        html.contains("If the frame stays empty, ") && html.contains("<iframe src=\"http://localhost:"),
        "{html}"
    );
    let address = text
        .split_once("http://")
        .unwrap()
        .1
        .split([' ', '/'])
        .next()
        .unwrap()
        .to_owned();

    // It reads the files in a thread of its own.
    let begun = Instant::now();
    let scalars = loop {
        let tags = fetch(&address, "/data/plugin/scalars/tags").unwrap();
        let tags: Value = serde_json::from_str(&tags).unwrap_or_else(|error| panic!("{error}: {tags}"));
        let run = tags
            .as_object()
            .and_then(|runs| runs.iter().find(|(_, tags)| !tags["train_loss"].is_null()));
        if let Some((run, _)) = run {
            let path = format!(
                "/data/plugin/scalars/scalars?run={}&tag=train_loss",
                run.replace('/', "%2F")
            );
            break fetch(&address, &path).unwrap();
        }
        assert!(begun.elapsed() < LIMIT, "{tags}");
        std::thread::sleep(Duration::from_millis(200));
    };
    // [wall time, step, value]
    let scalars: Value = serde_json::from_str(&scalars).unwrap_or_else(|error| panic!("{error}: {scalars}"));
    let last = scalars.as_array().and_then(|all| all.last()).unwrap();
    let loss = last[2].as_f64().unwrap();
    assert!(loss > 0.0 && loss < 1.0, "{scalars}");
    // The same folder once more: the one that runs.
    let again = kernel.ok("%tensorboard");
    assert_eq!(again.all("display_data")[0]["data"]["text/plain"], data["text/plain"]);

    assert!(!processes_with(&format!("{folder}/lightning_logs")).is_empty());
    drop(kernel);
    let begun = Instant::now();
    while !processes_with(&format!("{folder}/lightning_logs")).is_empty() {
        assert!(begun.elapsed() < LIMIT, "it goes on without its kernel");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(TcpStream::connect(&address).is_err());
}
