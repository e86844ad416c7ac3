//! A data frame as a table. Read from what polars writes for `{:?}`, so that no cell needs polars to be known here:
//!
//! ```text
//! shape: (2, 2)
//! ┌───────┬──────┐
//! │ name  ┆ size │
//! │ ---   ┆ ---  │
//! │ str   ┆ f64  │
//! ╞═══════╪══════╡
//! │ maple ┆ 1.5  │
//! │ …     ┆ …    │
//! └───────┴──────┘
//! ```

use lightcell_events::escape;

/// The HTML of a frame; `None` when the text is none.
pub fn table(text: &str) -> Option<String> {
    let (shape, rest) = text.split_once('\n')?;
    if !shape.starts_with("shape: (") || !rest.starts_with('┌') {
        return None;
    }
    let (mut head, mut body): (Vec<Vec<&str>>, Vec<Vec<&str>>) = (Vec::new(), Vec::new());
    let mut below = false;
    for line in rest.lines() {
        if line.starts_with('╞') {
            below = true;
        } else if let Some(row) = line.strip_prefix('│') {
            let row = row.strip_suffix('│')?.split('┆').map(str::trim).collect();
            if below { &mut body } else { &mut head }.push(row);
        }
    }
    let columns = head.first()?.len();
    if head.iter().chain(&body).any(|row| row.len() != columns) {
        // A value holds such a stroke.
        return None;
    }
    let rows: usize = shape["shape: (".len()..]
        .split(',')
        .next()?
        .replace('_', "")
        .parse()
        .ok()?;
    let is_cut = body.iter().any(|row| row.iter().all(|cell| *cell == "…"));
    if !is_cut && body.len() != rows {
        // A value goes over several lines.
        return None;
    }
    let mut html = String::from("<table>\n<thead><tr>");
    for column in 0..columns {
        html.push_str(&format!("<th>{}", escape(head[0][column])));
        // Under the name, behind strokes, the type; a user can turn both off.
        for kind in head[1..].iter().map(|row| row[column]).filter(|kind| *kind != "---") {
            html.push_str(&format!("<br><small>{}</small>", escape(kind)));
        }
        html.push_str("</th>");
    }
    html.push_str("</tr></thead>\n<tbody>\n");
    for row in &body {
        let cells: String = row.iter().map(|cell| format!("<td>{}</td>", escape(cell))).collect();
        html.push_str(&format!("<tr>{cells}</tr>\n"));
    }
    html.push_str(&format!("</tbody>\n</table>\n<p>{}</p>", escape(shape)));
    Some(html)
}

#[cfg(test)]
mod tests {
    use super::*;

    // As polars writes it, here its Python package 2.1.
    const FRAME: &str = "shape: (1_000, 2)\n\
        ┌───────┬──────┐\n\
        │ a<b   ┆ size │\n\
        │ ---   ┆ ---  │\n\
        │ str   ┆ f64  │\n\
        ╞═══════╪══════╡\n\
        │ maple ┆ 1.5  │\n\
        │ …     ┆ …    │\n\
        │ oak   ┆ null │\n\
        └───────┴──────┘";

    #[test]
    fn a_frame_is_a_table_with_its_shape() {
        let html = table(FRAME).unwrap();
        assert!(
            html.contains("<th>a&lt;b<br><small>str</small></th><th>size<br><small>f64</small></th>"),
            "{html}"
        );
        assert!(html.contains("<tr><td>maple</td><td>1.5</td></tr>"), "{html}");
        assert_eq!(html.matches("<tr><td>").count(), 3);
        assert!(html.ends_with("<p>shape: (1_000, 2)</p>"), "{html}");
    }

    #[test]
    fn what_only_looks_like_a_frame_is_text() {
        assert_eq!(table("shape: (1,)\nSeries: 'a' [i32]\n[\n\t1\n]"), None);
        assert_eq!(table("shape: (2, 2)\nnothing"), None);
        assert_eq!(table(&FRAME.replace("maple", "ma┆le")), None);
        let whole = FRAME.replace("│ …     ┆ …    │\n", "").replace("1_000", "2");
        assert!(table(&whole).is_some());
        assert_eq!(table(&whole.replace("(2, 2)", "(1, 2)")), None);
    }
}
