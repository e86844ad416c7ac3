//! Figures come from cells as data and are drawn here.

use anyhow::{Context, Result, bail};
use lightcell_events::figure::{Figure, MIME, SAVE};
use lightcell_plot::Picture;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

/// Media types and their contents.
type Parts = Vec<(String, Vec<u8>)>;

/// What becomes of a display.
#[derive(Debug, PartialEq)]
pub enum Drawn {
    /// It is shown so.
    Shown(Parts),
    /// It was to be written to a file; the cell was told whether it is.
    Saved,
}

/// Draws the figure in a display: SVG, PNG and its text. One that is to be saved is written to its file. Any other display is
/// as it was.
pub fn drawn(media: &[(String, Vec<u8>)]) -> Drawn {
    let part = |mime: &str| media.iter().find(|(of, _)| of == mime).map(|(_, content)| content);
    let Some(data) = part(MIME) else {
        return Drawn::Shown(media.to_vec());
    };
    let figure = Figure::decode(data).context("it is no figure of this version of Lightcell");
    if let Some(paths) = part(SAVE) {
        let paths = String::from_utf8_lossy(paths).into_owned();
        let (waiting, path) = paths.split_once('\n').unwrap_or(("", &paths));
        let saved = figure.and_then(|figure| write(&figure, Path::new(path)));
        let problem = saved.err().map(|error| format!("the figure is not saved: {error:#}"));
        if let Err(error) = answer(waiting, problem.as_deref().unwrap_or_default()) {
            tracing::warn!("the cell that saves {path} does not listen: {error}");
        }
        return Drawn::Saved;
    }
    let mut parts: Parts = media.iter().filter(|(mime, _)| mime != MIME).cloned().collect();
    match figure {
        Ok(figure) => match Picture::new(&figure) {
            Some(picture) => {
                parts.insert(0, ("image/png".to_owned(), picture.png()));
                parts.insert(0, ("image/svg+xml".to_owned(), picture.svg().into_bytes()));
            }
            None => tracing::warn!("a figure with pixels that do not fit its size"),
        },
        // Its text is shown.
        Err(error) => tracing::warn!("a figure cannot be drawn: {error:#}"),
    }
    Drawn::Shown(parts)
}

/// Tells the cell that waits under this name what went wrong; nothing for success.
fn answer(name: &str, problem: &str) -> std::io::Result<()> {
    let address = SocketAddr::from_abstract_name(name)?;
    let end = problem.floor_char_boundary(1000);
    UnixDatagram::unbound()?
        .send_to_addr(&problem.as_bytes()[..end], &address)
        .map(drop)
}

/// Draws data that a program saved.
///
/// # Errors
/// When they cannot be read, are no figure, or the picture cannot be written.
pub fn draw(data: &Path, to: &Path) -> Result<()> {
    let bytes = std::fs::read(data).with_context(|| data.display().to_string())?;
    let figure = Figure::decode(&bytes).with_context(|| format!("{} holds no figure", data.display()))?;
    write(&figure, to)
}

fn write(figure: &Figure, path: &Path) -> Result<()> {
    let Some(picture) = Picture::new(figure) else {
        bail!("its pixels do not fit its size");
    };
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    let content = match ending.to_ascii_lowercase().as_str() {
        "svg" => picture.svg().into_bytes(),
        "png" => picture.png(),
        _ => bail!("{}: a picture's name ends in .svg or .png", path.display()),
    };
    std::fs::write(path, content).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use lightcell_events::figure::Content;

    fn data() -> Vec<u8> {
        let content = Content::Histogram {
            low: 0.0,
            high: 1.0,
            counts: vec![1, 2],
        };
        let title = "t".to_owned();
        Figure {
            title,
            content,
            ..Figure::default()
        }
        .encode()
    }

    #[test]
    fn a_figure_becomes_pictures_and_keeps_its_text() {
        let text = ("text/plain".to_owned(), b"t".to_vec());
        let Drawn::Shown(parts) = drawn(&[(MIME.to_owned(), data()), text.clone()]) else {
            panic!("not shown")
        };
        let mimes: Vec<&str> = parts.iter().map(|(mime, _)| mime.as_str()).collect();
        assert_eq!(mimes, ["image/svg+xml", "image/png", "text/plain"]);
        let other = [text.clone()];
        assert_eq!(drawn(&other), Drawn::Shown(other.to_vec()));
        // What cannot be read is its text.
        assert_eq!(
            drawn(&[(MIME.to_owned(), b"{}".to_vec()), text.clone()]),
            Drawn::Shown(vec![text])
        );
    }

    #[test]
    fn a_figure_is_saved_and_the_cell_goes_on_whatever_happens() {
        let folder = std::env::temp_dir().join(format!("lightcell-drawn-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let waiting = format!("lightcell-drawn-{}", std::process::id());
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&waiting).unwrap()).unwrap();
        let save = |name: &str| {
            let paths = format!("{waiting}\n{}", folder.join(name).display());
            let media = [(MIME.to_owned(), data()), (SAVE.to_owned(), paths.into_bytes())];
            assert_eq!(drawn(&media), Drawn::Saved);
            let mut answer = [0; 1024];
            let length = socket.recv(&mut answer).unwrap();
            String::from_utf8_lossy(&answer[..length]).into_owned()
        };
        assert_eq!(save("a.svg"), "");
        assert!(std::fs::read_to_string(folder.join("a.svg")).unwrap().contains("<svg"));
        assert_eq!(save("a.PNG"), "");
        assert!(save("none/a.svg").starts_with("the figure is not saved: "));
        assert!(save(&"long/".repeat(1000)).len() <= 1000);
        // One that waits no more stops nothing.
        let gone = [
            (MIME.to_owned(), data()),
            (
                SAVE.to_owned(),
                format!("gone\n{}", folder.join("c.svg").display()).into_bytes(),
            ),
        ];
        assert_eq!(drawn(&gone), Drawn::Saved);
        std::fs::write(folder.join("a.json"), data()).unwrap();
        draw(&folder.join("a.json"), &folder.join("b.png")).unwrap();
        assert!(draw(&folder.join("b.png"), &folder.join("c.png")).is_err());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
