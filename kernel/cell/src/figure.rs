//! A figure that the kernel draws.

use crate::{Kind, Rich, RichOutput, emit};
use lightcell_events::frame::DisplayKind;
use std::io::{Error, ErrorKind, Result};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

// As in `lightcell_events::figure`, which is compiled without serde here.
const MIME: &str = "application/vnd.lightcell.figure+json";
const SAVE: &str = "application/vnd.lightcell.save";

/// Something to look at: an image, a curve, a confusion matrix. The functions that make one ( `show`, `plot`, `roc` and their
/// like) are the training library's.
///
/// It holds numbers only. In a notebook the kernel draws it, as SVG, PNG and text; elsewhere its text is printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Figure {
    title: String,
    x: String,
    y: String,
    content: String,
    text: String,
    problem: Option<String>,
}

impl Figure {
    /// A figure with this content: JSON of `lightcell_events::figure::Content`, and the same in words.
    pub fn new(content: impl Into<String>, text: impl Into<String>) -> Figure {
        Figure {
            title: String::new(),
            x: String::new(),
            y: String::new(),
            content: content.into(),
            text: text.into(),
            problem: None,
        }
    }

    /// What could not become a figure, with the reason. It is shown as that line; to save it is an error.
    pub fn failed(problem: impl Into<String>) -> Figure {
        Figure {
            problem: Some(problem.into()),
            ..Figure::new("", "")
        }
    }

    /// The line above it.
    #[must_use]
    pub fn title(mut self, title: impl Into<String>) -> Figure {
        self.title = title.into();
        self
    }

    /// The name of the x axis.
    #[must_use]
    pub fn x_label(mut self, name: impl Into<String>) -> Figure {
        self.x = name.into();
        self
    }

    /// The name of the y axis.
    #[must_use]
    pub fn y_label(mut self, name: impl Into<String>) -> Figure {
        self.y = name.into();
        self
    }

    /// Why there is nothing to draw, if so.
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// In words and block characters.
    pub fn text(&self) -> String {
        match (&self.problem, self.title.as_str()) {
            (Some(problem), _) => problem.clone(),
            (None, "") => self.text.clone(),
            (None, title) => format!("{title}\n{}", self.text),
        }
    }

    /// As JSON: title, names of the axes, content.
    pub fn json(&self) -> String {
        let [title, x, y] = [&self.title, &self.x, &self.y].map(|text| quoted(text));
        format!("{{\"title\":{title},\"x\":{x},\"y\":{y},\"content\":{}}}", self.content)
    }

    /// Both forms, for [`display`](crate::display) and its kin.
    pub fn rich(&self) -> Rich {
        match &self.problem {
            Some(problem) => Rich::default().and_text(problem.as_str()),
            None => Rich::new(MIME, self.json()).and_text(self.text()),
        }
    }

    /// Shows it as the value of the cell's last expression. evcxr calls this.
    pub fn evcxr_display(&self) {
        self.rich().evcxr_display();
    }

    /// Writes it to a file: `.svg` and `.png` are pictures, `.txt` is the text, `.json` the data. Pictures are drawn by the
    /// kernel; a program that is no notebook writes the data beside (`roc.svg.json`) and says so, for `lightcell draw`.
    ///
    /// # Errors
    /// When there is nothing to draw, the ending is another, or the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = std::path::absolute(path.as_ref())?;
        if let Some(problem) = &self.problem {
            return Err(Error::other(problem.clone()));
        }
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        match ending.to_ascii_lowercase().as_str() {
            "txt" => std::fs::write(&path, self.text() + "\n"),
            "json" => std::fs::write(&path, self.json()),
            "svg" | "png" => self.draw(&path),
            _ => Err(Error::other(format!(
                "{}: a figure is saved as .svg, .png, .txt or .json",
                path.display()
            ))),
        }
    }

    fn draw(&self, path: &Path) -> Result<()> {
        let at = |error: Error| Error::new(error.kind(), format!("{}: {error}", path.display()));
        if !crate::in_notebook() {
            let data = format!("{}.json", path.display());
            std::fs::write(&data, self.json()).map_err(at)?;
            eprintln!(
                "{data} holds the figure's data, draw it with: lightcell draw {data} {}",
                path.display()
            );
            return Ok(());
        }
        // The kernel answers here when the file is written: nothing, or what went wrong.
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "lightcell-figure-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
        // It is drawn in milliseconds; a busy machine is given its time.
        socket.set_read_timeout(Some(Duration::from_secs(60)))?;
        let request = RichOutput {
            kind: DisplayKind::Display,
            id: String::new(),
            media: vec![
                (MIME.to_owned(), self.json().into_bytes()),
                (SAVE.to_owned(), format!("{name}\n{}", path.display()).into_bytes()),
            ],
        };
        emit(Kind::Display, &request.encode());
        let mut answer = [0; 1024];
        match socket.recv(&mut answer) {
            Ok(0) => Ok(()),
            Ok(length) => Err(Error::other(String::from_utf8_lossy(&answer[..length]).into_owned())),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Err(Error::other(format!(
                "{}: the kernel has not drawn it within a minute",
                path.display()
            ))),
            Err(error) => Err(at(error)),
        }
    }
}

/// As JSON text.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

impl std::fmt::Debug for Figure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outside_of_a_notebook_the_data_are_saved() {
        let folder = std::env::temp_dir().join(format!("lightcell-figure-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let figure = Figure::new("{}", "body").title("a \"b\"\\\n");
        figure.save(folder.join("f.svg")).unwrap();
        figure.save(folder.join("f.txt")).unwrap();
        let json = std::fs::read_to_string(folder.join("f.svg.json")).unwrap();
        assert_eq!(
            json,
            "{\"title\":\"a \\\"b\\\"\\\\\\u000a\",\"x\":\"\",\"y\":\"\",\"content\":{}}"
        );
        assert_eq!(
            std::fs::read_to_string(folder.join("f.txt")).unwrap(),
            "a \"b\"\\\n\nbody\n"
        );
        let error = figure.save(folder.join("f.gif")).unwrap_err().to_string();
        assert!(
            error.ends_with("f.gif: a figure is saved as .svg, .png, .txt or .json"),
            "{error}"
        );
        assert!(figure.save(folder.join("none/f.svg")).is_err());
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn what_failed_is_a_line() {
        let failed = Figure::failed("show: an empty tensor").title("x");
        assert_eq!(failed.rich(), Rich::default().and_text("show: an empty tensor"));
        assert_eq!(failed.save("x.svg").unwrap_err().to_string(), "show: an empty tensor");
        assert_eq!(format!("{failed:?}"), "show: an empty tensor");
    }
}
