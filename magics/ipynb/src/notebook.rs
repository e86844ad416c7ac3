//! The notebook format, as far as it is needed here; what is not known stays as it is.

use crate::lock::Lock;
use serde_json::{Value, json};

/// A notebook of format 4.
#[derive(Debug, Clone, PartialEq)]
pub struct Notebook {
    /// The file's content.
    pub value: Value,
}

/// What a cell holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CellKind {
    /// To be run.
    Code,
    /// Text.
    Markdown,
    /// Neither.
    Raw,
}

/// A cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// What it holds.
    pub kind: CellKind,
    /// Its text.
    pub source: String,
    /// Its tags.
    pub tags: Vec<String>,
}

/// Cells with this tag keep their outputs, as with nbstripout.
const KEEP: &str = "keep_output";
/// What front ends and clients note about a run in a cell's metadata.
const OF_A_RUN: [&str; 6] = [
    "execution",
    "ExecuteTime",
    "collapsed",
    "scrolled",
    "papermill",
    "jupyter",
];

impl Notebook {
    /// Reads one.
    ///
    /// # Errors
    /// When it is no notebook of format 4, in words.
    pub fn parse(text: &str) -> Result<Notebook, String> {
        let value: Value = serde_json::from_str(text).map_err(|error| format!("it is no notebook: {error}"))?;
        if !value["cells"].is_array() {
            return Err(match value["nbformat"].as_u64() {
                Some(old) if old < 4 => format!("it has the old format {old}; open and save it in Jupyter"),
                _ => "it is no notebook: there are no cells in it".to_owned(),
            });
        }
        Ok(Notebook { value })
    }

    /// One of these cells of code.
    pub fn of_cells(cells: &[&str]) -> Notebook {
        let cells: Vec<Value> = cells
            .iter()
            .map(|text| {
                json!({"cell_type": "code", "execution_count": null, "metadata": {}, "outputs": [], "source": lines(text)})
            })
            .collect();
        Notebook {
            value: json!({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 4}),
        }
    }

    /// Its text in the form in which Jupyter writes it.
    pub fn text(&self) -> String {
        let mut text = Vec::new();
        let form = serde_json::ser::PrettyFormatter::with_indent(b" ");
        let mut writer = serde_json::Serializer::with_formatter(&mut text, form);
        // A value in memory can always be written to memory.
        let _ = serde::Serialize::serialize(&self.value, &mut writer);
        String::from_utf8_lossy(&text).into_owned() + "\n"
    }

    /// Its cells.
    pub fn cells(&self) -> Vec<Cell> {
        let cells = self.value["cells"].as_array().into_iter().flatten();
        cells
            .map(|cell| Cell {
                kind: match cell["cell_type"].as_str() {
                    Some("code") => CellKind::Code,
                    Some("markdown") => CellKind::Markdown,
                    _ => CellKind::Raw,
                },
                source: joined(&cell["source"]),
                tags: tags(cell),
            })
            .collect()
    }

    /// Takes away outputs and what notes when and how often cells ran. A lock in an output goes into the metadata.
    pub fn clean(&mut self) {
        if let Some(lock) = Lock::of(self) {
            lock.keep(self);
        }
        for cell in self.value["cells"].as_array_mut().into_iter().flatten() {
            let keep = tags(cell).iter().any(|tag| tag == KEEP);
            if cell["cell_type"] == "code" {
                if !keep {
                    cell["outputs"] = json!([]);
                }
                cell["execution_count"] = Value::Null;
            }
            if let Some(metadata) = cell["metadata"].as_object_mut() {
                metadata.retain(|name, _| !OF_A_RUN.contains(&name.as_str()));
            }
        }
        if let Some(metadata) = self.value["metadata"].as_object_mut() {
            metadata.retain(|name, _| !["widgets", "papermill", "signature"].contains(&name.as_str()));
        }
    }

    /// Puts a code cell with a tag behind the cell at `after`, or before all; one that has the tag already is replaced.
    pub fn inject(&mut self, source: &str, tag: &str, after: Option<usize>) {
        let mut cell = json!({
            "cell_type": "code", "execution_count": null, "metadata": {"tags": [tag]}, "outputs": [], "source": lines(source),
        });
        let minor = self.value["nbformat_minor"].as_u64().unwrap_or(0);
        if self.value["nbformat"] == 4 && minor >= 5 {
            cell["id"] = json!(tag);
        }
        let Some(cells) = self.value["cells"].as_array_mut() else {
            return;
        };
        if let Some(old) = cells
            .iter_mut()
            .find(|cell| tags(cell).iter().any(|found| found == tag))
        {
            *old = cell;
        } else {
            cells.insert(after.map_or(0, |at| at + 1).min(cells.len()), cell);
        }
    }
}

fn tags(cell: &Value) -> Vec<String> {
    let tags = cell["metadata"]["tags"].as_array().into_iter().flatten();
    tags.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// A text that stands in the file as one or as its lines.
fn joined(value: &Value) -> String {
    match value {
        Value::Array(lines) => lines.iter().filter_map(Value::as_str).collect(),
        other => other.as_str().unwrap_or_default().to_owned(),
    }
}

fn lines(text: &str) -> Vec<&str> {
    text.split_inclusive('\n').collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r##"{
 "cells": [
  {
   "cell_type": "markdown",
   "metadata": {},
   "source": [
    "# Ä\n",
    "text"
   ]
  },
  {
   "cell_type": "code",
   "execution_count": 3,
   "metadata": {
    "execution": {
     "iopub.status.busy": "2026"
    },
    "tags": [
     "parameters"
    ]
   },
   "outputs": [
    {
     "name": "stdout",
     "output_type": "stream",
     "text": "1"
    }
   ],
   "source": "let lr = 1e-3;"
  }
 ],
 "metadata": {},
 "nbformat": 4,
 "nbformat_minor": 5
}
"##;

    #[test]
    fn a_file_of_jupyters_stays_as_it_is_byte_for_byte() {
        assert_eq!(Notebook::parse(TEXT).unwrap().text(), TEXT);
    }

    #[test]
    fn cleaning_takes_what_a_run_left_and_nothing_else() {
        let mut notebook = Notebook::parse(TEXT).unwrap();
        notebook.clean();
        let cell = &notebook.value["cells"][1];
        assert_eq!(
            cell,
            &json!({"cell_type": "code", "execution_count": null, "metadata": {"tags": ["parameters"]}, "outputs": [], "source": "let lr = 1e-3;"})
        );
        let clean = notebook.text();
        notebook.clean();
        assert_eq!(notebook.text(), clean);
        let mut kept = Notebook::parse(&TEXT.replace("\"parameters\"", "\"keep_output\"")).unwrap();
        kept.clean();
        assert_eq!(kept.value["cells"][1]["outputs"].as_array().map(Vec::len), Some(1));
        assert!(kept.value["cells"][1]["execution_count"].is_null());
    }

    #[test]
    fn a_cell_is_put_behind_another_and_replaced_the_second_time() {
        let mut notebook = Notebook::parse(TEXT).unwrap();
        notebook.inject("let lr = 0.1;", "injected-parameters", Some(1));
        notebook.inject("let lr = 0.2;\nlet n = 1;", "injected-parameters", Some(1));
        let cells = notebook.cells();
        assert_eq!(cells.len(), 3);
        assert_eq!(cells[2].source, "let lr = 0.2;\nlet n = 1;");
        assert_eq!(cells[2].tags, ["injected-parameters"]);
        notebook.inject("let a = 1;", "other", None);
        assert_eq!(notebook.cells()[0].source, "let a = 1;");
    }

    #[test]
    fn what_is_no_notebook_is_said() {
        let error = |text: &str| Notebook::parse(text).unwrap_err();
        assert!(error("let a = 1;").starts_with("it is no notebook: "));
        assert_eq!(error("{}"), "it is no notebook: there are no cells in it");
        assert_eq!(
            error(r#"{"nbformat": 3, "worksheets": []}"#),
            "it has the old format 3; open and save it in Jupyter"
        );
    }
}
