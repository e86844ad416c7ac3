//! Kernels in Slurm's allocations: a controller and two nodes of the test's own, with and without an ssh before them.

use lightcell_tests::messages::documented;
use lightcell_tests::remote::{NET, Sshd};
use lightcell_tests::slurm::Slurm;
use lightcell_tests::traces::{Keeping, kill_front_end, processes, signal};
use lightcell_tests::{Cell, Kernel, Scratch, home};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

fn add(jupyter: &Path, slurm: &Slurm, args: &[&str]) -> String {
    let out = Command::new(home().join("bin/lightcell"))
        .args(["remote", "add"])
        .args(args)
        .env("JUPYTER_DATA_DIR", jupyter)
        .env("SLURM_CONF", slurm.config())
        .output()
        .expect("the command runs");
    String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
}

fn kernel(jupyter: &Path, slurm: &Slurm, name: &str) -> Kernel {
    let (name, data) = (format!("lightcell-{name}"), jupyter.join("data"));
    Kernel::start_with(&[
        ("LIGHTCELL_TEST_KERNEL", &name),
        ("JUPYTER_PATH", &jupyter.to_string_lossy()),
        ("JUPYTER_DATA_DIR", &data.to_string_lossy()),
        ("SLURM_CONF", &slurm.config().to_string_lossy()),
    ])
}

fn until(what: &str, holds: impl FnMut() -> bool) {
    lightcell_tests::traces::until(what, 60, holds);
}

/// Under which name the kernel's job is known to Slurm.
fn job_of(kernel: &mut Kernel) -> String {
    let name = kernel.ok("std::env::var(\"SLURM_JOB_NAME\").unwrap()").value();
    name.trim_matches('"').to_owned()
}

/// No job, and no process of one.
fn nothing_is_left(slurm: &Slurm, name: &str) {
    until(
        &format!("the job {name} is gone: {}", slurm.says("squeue", &["-h"])),
        || slurm.says("squeue", &["-h", "--name", name]).is_empty(),
    );
    let mark = name.replace("lightcell-", "lightcell-mark-");
    until(&format!("the processes of {mark} are gone"), || {
        !processes().iter().any(|(_, _, words)| words.contains(&mark))
    });
}

/// Slurm's signal before the end of the job, sent by hand.
fn ends_with_a_checkpoint(kernel: &mut Kernel, slurm: &Slurm, name: &str) {
    let folder = slurm.dir().join("run");
    std::fs::create_dir_all(&folder).unwrap();
    kernel.ok(&format!("%cd {}\n{NET}", folder.display()));
    let gpu = kernel.ok("%gpu");
    let shown = gpu.all("display_data")[0]["data"]["text/plain"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(shown.contains(", 2 cores"), "{shown}");
    let seen = folder.join("seen");
    kernel.send(json!({"op": "execute", "code": "%fit Net data --epochs -1", "touch": ["epoch 2", seen]}));
    until("the run goes on", || seen.exists());
    let id = slurm.says("squeue", &["-h", "--name", name, "-o", "%i"]);
    let sent = slurm.run("scancel", &["--signal=URG", &format!("{id}.0")]);
    assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
    let answer = kernel.read();
    assert_eq!(answer["reply"]["status"], "ok", "{answer}");
    let messages = answer["messages"].to_string();
    for text in [
        "is nearly over: a `%fit` that runs writes a checkpoint now; after a restart of the kernel, the same `%fit … --ckpt-path last` goes on",
        "checkpoints/hpc_ckpt.safetensors; in a new kernel, the same command with `--ckpt-path last` goes on from there",
    ] {
        assert!(messages.contains(text), "{text}: {messages}");
    }
    // In another kernel it would go on there; here it stands for that.
    let epochs: u64 = kernel.ok("fit.history.len()").value().parse().unwrap();
    let cell = kernel.ok(&format!(
        "%fit Net data --epochs {} --restart --ckpt-path last",
        epochs + 1
    ));
    let messages = json!(cell.messages).to_string();
    assert!(!messages.contains("there is no checkpoint"), "{messages}");
    assert_eq!(kernel.ok("fit.history.len()").value(), (epochs + 1).to_string());
}

#[test]
fn a_kernel_runs_in_an_allocation_and_leaves_none() {
    let slurm = Slurm::start("slurm-run");
    let jupyter = Scratch::new("slurm-run-jupyter");
    let said = add(
        &jupyter.0,
        &slurm,
        &["sl", "slurm://", "--partition", "test", "--cpus", "2", "--time", "15"],
    );
    assert!(said.contains("✓ kernel      runs on "), "{said}");
    let said = add(&jupyter.0, &slurm, &["no", "slurm://", "--partition", "nope"]);
    assert!(said.contains("✗ kernel      Slurm knows no such partition: "), "{said}");
    let mut none = kernel(&jupyter.0, &slurm, "no");
    documented("no such partition", &none.err("1").traceback());
    drop(none);
    // While the rest goes on, the time of another one runs out.
    let mut brief = small_and_brief(&jupyter.0, &slurm);

    let mut kernel = kernel(&jupyter.0, &slurm, "sl");
    // It knows its limits, and not that it is a task of its own.
    let env = kernel.ok("[\"SLURM_JOB_NAME\", \"OMP_NUM_THREADS\", \"SLURM_NTASKS\"].map(|name| std::env::var(name).unwrap_or_default())");
    let env: Vec<String> = serde_json::from_str(&env.value()).unwrap();
    assert_eq!(env[1..], ["2", ""]);
    // Steps that a notebook starts work.
    let cell = kernel.ok("!timeout 30 srun -n1 sh -c 'echo step $SLURM_STEP_ID'");
    assert!(cell.stdout().contains("step 1"), "{}", cell.stdout());
    let (cell, _) = kernel.stopped(
        "println!(\"on\"); loop { std::thread::sleep(std::time::Duration::from_millis(50)); }",
        "on",
    );
    assert_eq!(cell.ename(), "Interrupted");
    let mut name = env[0].clone();
    is_warned(&mut kernel, &slurm, &name);
    ends_with_a_checkpoint(&mut kernel, &slurm, &name);
    for now in [false, true] {
        kernel.call(json!({"op": "restart", "now": now}));
        nothing_is_left(&slurm, &name);
        name = job_of(&mut kernel);
    }
    // Cancelled, the notebook says so; the next restart is a new job.
    slurm.run("scancel", &["--name", &name]);
    until("the end of the job has arrived", || {
        let cell = kernel.run("1 + 1");
        cell.reply["status"] == "error"
    });
    let cell = kernel.err("1 + 1");
    assert_eq!(cell.ename(), "RemoteError");
    documented("job cancelled", &cell.traceback());
    nothing_is_left(&slurm, &name);
    kernel.call(json!({"op": "restart"}));
    // Whatever is killed: the job goes.
    for who in ["launcher", "srun"] {
        let name = job_of(&mut kernel);
        let launcher = kernel.pid();
        let pid = match who {
            "launcher" => launcher,
            _ => {
                processes()
                    .iter()
                    .find(|(_, _, words)| words.starts_with("srun ") && words.contains(&name))
                    .unwrap()
                    .0
            }
        };
        signal(pid, "-9");
        nothing_is_left(&slurm, &name);
        kernel.call(json!({"op": "restart", "now": true}));
    }
    let name = job_of(&mut kernel);
    assert_eq!(kernel.call(json!({"op": "shutdown"}))["gone"], true);
    nothing_is_left(&slurm, &name);

    // Slurm looks twice a minute, and gives a job that is over its time a while.
    let cell = Cell::from(brief.read());
    assert_eq!(cell.ename(), "RemoteError", "{}", cell.traceback());
    documented("time over", &cell.traceback());
    assert_eq!(brief.call(json!({"op": "shutdown"}))["gone"], true);
}

/// A kernel with two minutes, one processor, a gibibyte and one of the GPUs, in which a cell runs until its time is over.
fn small_and_brief(jupyter: &Path, slurm: &Slurm) -> Kernel {
    let options = ["--time", "2", "--cpus", "1", "--gpus", "1", "--srun-arg=--mem=1G"];
    let said = add(jupyter, slurm, &[&["brief", "slurm://"][..], &options].concat());
    assert!(said.contains("✓ kernel      runs on "), "{said}");
    let mut brief = kernel(jupyter, slurm, "brief");
    let gpu = brief.ok("%gpu");
    let shown = gpu.all("display_data")[0]["data"]["text/plain"].to_string();
    assert!(
        shown.contains(", 1 cores") && shown.contains(" free of 1.0 GiB"),
        "{shown}"
    );
    // libtorch and CUDA go by these: neither asks Slurm.
    let seen = brief.ok("[\"OMP_NUM_THREADS\", \"CUDA_VISIBLE_DEVICES\"].map(|name| std::env::var(name).unwrap())");
    assert_eq!(seen.value(), "[\"1\", \"0\"]");
    // What `%fit` calculates with: where two processors may be used, this work starts a second thread.
    let work = "use lightcell::prelude::*;
        let threads = || std::fs::read_dir(\"/proc/self/task\").map_or(0, Iterator::count);
        let x = Tensor::rand([600, 600], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let before = threads();
        x.matmul(&x).relu().sum(Kind::Float).backward();
        (lightcell::tch::get_num_threads(), threads() - before)";
    assert_eq!(brief.ok(work).value(), "(1, 0)");
    brief.send(json!({"op": "execute", "code": "loop { std::thread::sleep(std::time::Duration::from_millis(50)); }"}));
    brief
}

/// Ten minutes before the end, the notebook says so.
fn is_warned(kernel: &mut Kernel, slurm: &Slurm, name: &str) {
    let told = slurm.dir().join("told");
    let code = format!(
        "while !std::path::Path::new({told:?}).exists() {{ std::thread::sleep(std::time::Duration::from_millis(20)); }}"
    );
    let job = format!("JobId={}", slurm.says("squeue", &["-h", "--name", name, "-o", "%i"]));
    let out = slurm.run("scontrol", &["update", &job, "TimeLimit=10"]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    kernel.send(
        json!({"op": "execute", "code": code, "touch": [", and the kernel with it: write what is to be kept", told]}),
    );
    assert_eq!(kernel.read()["reply"]["status"], "ok");
    let out = slurm.run("scontrol", &["update", &job, "TimeLimit=15"]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

#[test]
fn a_cell_says_what_its_job_waits_for() {
    let slurm = Slurm::start("slurm-wait");
    let config = slurm.config().to_string_lossy().into_owned();
    // Behind an ssh, as where the login host is another machine.
    let sshd = Sshd::start_with("slurm-wait-ssh", &[("SLURM_CONF", &config)]);
    let ssh_config = format!("--ssh-arg={}/ssh_config", sshd.dir().display());
    let dir = home().to_string_lossy().into_owned();
    let jupyter = sshd.jupyter();
    let options = ["--dir", &dir, "--ssh-arg=-F", &ssh_config, "--cpus", "2", "--time", "5"];
    let said = add(&jupyter, &slurm, &[&["far", "slurm://loop"][..], &options].concat());
    assert!(said.contains("✓ kernel      runs on "), "{said}");
    // Both nodes are taken.
    for _ in 0..2 {
        let out = slurm.run(
            "sbatch",
            &[
                "--exclusive",
                "-N1",
                "--time=10",
                "--output=/dev/null",
                "--job-name=other",
                "--wrap",
                "sleep 600",
            ],
        );
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }
    until("both nodes are taken", || {
        slurm
            .says("squeue", &["-h", "-t", "running", "--name", "other"])
            .lines()
            .count()
            == 2
    });
    let mut kernel = kernel(&jupyter, &slurm, "far");
    // The front end took it for alive; the cell tells.
    let seen = slurm.dir().join("seen");
    kernel.send(json!({"op": "execute", "code": "6 * 7", "touch": [" waits in the queue ", seen]}));
    until("the cell says that it waits", || seen.exists());
    slurm.run("scancel", &["--name", "other"]);
    let answer = kernel.read();
    assert_eq!(answer["reply"]["status"], "ok", "{answer}");
    // Five minutes are under the ten before which the user is warned.
    assert!(
        answer["messages"].to_string().contains(", and the kernel with it: "),
        "{answer}"
    );
    let outputs: Vec<(&str, &str)> = answer["messages"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|m: &Value| Some((m[0].as_str()?, m[1]["data"]["text/plain"].as_str()?)))
        .collect();
    assert!(
        outputs
            .iter()
            .any(|(_, text)| text.contains(" waits in the queue test (") && text.contains("start")),
        "{outputs:?}"
    );
    let last_update = outputs
        .iter()
        .rfind(|(kind, _)| *kind == "update_display_data")
        .unwrap();
    assert!(
        last_update.1.contains(" runs on n") && last_update.1.contains(" left, until "),
        "{outputs:?}"
    );
    assert!(outputs.contains(&("execute_result", "42")), "{outputs:?}");
    let name = job_of(&mut kernel);
    assert_eq!(kernel.call(json!({"op": "shutdown"}))["gone"], true);
    nothing_is_left(&slurm, &name);

    // A job that waits is given up with its kernel.
    for _ in 0..2 {
        slurm.run(
            "sbatch",
            &[
                "--exclusive",
                "-N1",
                "--time=10",
                "--output=/dev/null",
                "--job-name=other",
                "--wrap",
                "sleep 600",
            ],
        );
    }
    let mut kernel = self::kernel(&jupyter, &slurm, "far");
    assert_eq!(kernel.call(json!({"op": "shutdown"}))["gone"], true);
    until("the job is cancelled", || {
        !slurm.says("squeue", &["-h", "-o", "%j"]).contains("lightcell")
    });
}

/// A kept kernel in a job: its line is cut, its front end is killed, and what ends it ends the job.
fn outlives_its_front_end(slurm: &Slurm, jupyter: &Path, name: &str) {
    let _keeping = Keeping::of(name);
    let state = || {
        let mut command = Command::new(home().join("bin/lightcell"));
        command.args(["remote", "kept", name]).env("JUPYTER_DATA_DIR", jupyter);
        let out = command
            .env("SLURM_CONF", slurm.config())
            .output()
            .expect("the command runs");
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    let mut first = kernel(jupyter, slurm, name);
    first.ok("let v = 6 * 7;");
    let job = job_of(&mut first);
    // The line is lost: the launcher makes another one, and the next cell has the same variables.
    let launcher = first.pid();
    let line = processes().into_iter().find(|(_, parent, _)| *parent == launcher);
    signal(line.expect("a line").0, "-9");
    let cell = first.ok("v");
    assert_eq!(cell.value(), "42");
    let messages = json!(cell.messages).to_string();
    assert!(messages.contains("is lost; the kernel there is kept"), "{messages}");
    assert!(messages.contains("is there again"), "{messages}");
    // The front end is gone: the job stays, and the next of that kernelspec has it.
    kill_front_end(first);
    until("nobody is connected", || state().contains("nobody is connected"));
    assert_eq!(slurm.says("squeue", &["-h", "-t", "running", "-o", "%j"]), job);
    let mut second = kernel(jupyter, slurm, name);
    assert_eq!(second.ok("v").value(), "42");
    assert_eq!(slurm.says("squeue", &["-h", "-t", "running", "-o", "%j"]), job);
    // What ends it ends the job.
    assert_eq!(second.call(json!({"op": "shutdown"}))["gone"], true);
    nothing_is_left(slurm, &job);
    assert!(
        state().starts_with(&format!("no kernel of {name} is kept on ")),
        "{}",
        state()
    );
}

#[test]
fn a_kept_job_outlives_its_front_end_here_and_behind_ssh() {
    let slurm = Slurm::start("slurm-keep");
    let config = slurm.config().to_string_lossy().into_owned();
    let sshd = Sshd::start_with("slurm-keep-ssh", &[("SLURM_CONF", &config)]);
    let ssh_config = format!("--ssh-arg={}/ssh_config", sshd.dir().display());
    let dir = home().to_string_lossy().into_owned();
    let common = ["--cpus", "2", "--time", "15", "--keep", "1h"];
    let far = ["far-job", "slurm://loop", "--dir", &dir, "--ssh-arg=-F", &ssh_config];
    for (name, place) in [("job", &["job", "slurm://"][..]), ("far-job", &far)] {
        let said = add(&sshd.jupyter(), &slurm, &[place, &common].concat());
        assert!(said.contains("✓ kernel      runs on "), "{said}");
        outlives_its_front_end(&slurm, &sshd.jupyter(), name);
    }
}
