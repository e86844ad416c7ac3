//! The table of a model's layers, as PyTorch Lightning's `ModelSummary` lays it out.

use crate::path::Store;

/// A layer: its name in the tree, PyTorch's class, the numbers in its parameters.
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) class: String,
    pub(crate) parameters: u64,
}

/// The table, of layers up to this depth; -1 for all, 0 for none.
pub(crate) fn text(store: &Store, max_depth: i64) -> String {
    let parameters = store.parameters();
    let count = |fits: &dyn Fn(&str, bool) -> bool| -> u64 {
        let of = parameters
            .iter()
            .filter(|(name, tensor)| fits(name, tensor.requires_grad()));
        of.map(|(_, tensor)| tensor.numel() as u64).sum()
    };
    let all = rows(store, &|within| count(&|name, _| name.starts_with(within)));
    let shown: Vec<&Row> = all
        .iter()
        .filter(|row| max_depth < 0 || (row.name.matches('.').count() as i64) < max_depth)
        .collect();
    let mut cells: Vec<[String; 6]> = shown
        .iter()
        .enumerate()
        .map(|(number, row)| {
            let (name, class, count) = (row.name.clone(), row.class.clone(), readable(row.parameters));
            [number.to_string(), name, class, count, "train".to_owned(), readable(0)]
        })
        .collect();
    let (total, trained) = (count(&|_, _| true), count(&|_, trained| trained));
    // As in Lightning, those within others count twice here when both are shown.
    let left = total.saturating_sub(shown.iter().map(|row| row.parameters).sum());
    if left > 0 {
        let none = "n/a".to_owned();
        let name = "other params".to_owned();
        cells.push([" ".to_owned(), name, none.clone(), readable(left), none.clone(), none]);
    }
    let header = [" ", "Name", "Type", "Params", "Mode", "FLOPs"];
    let mut widths = header.map(str::len);
    for row in &cells {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: Vec<&str>| {
        let cells = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<String>>().join(" | ")
    };
    let rule = "-".repeat(widths.iter().sum::<usize>() + 3 * (widths.len() + 1));
    let mut lines = vec![line(header.to_vec()), rule.clone()];
    lines.extend(cells.iter().map(|row| line(row.iter().map(String::as_str).collect())));
    lines.push(rule);
    let bytes: usize = parameters
        .iter()
        .map(|(_, tensor)| tensor.numel() * tensor.kind().elt_size_in_bytes())
        .sum();
    let totals = [
        (readable(trained), "Trainable params"),
        (readable(total - trained), "Non-trainable params"),
        (readable(total), "Total params"),
        (
            grouped(bytes as f64 * 1e-6, 3),
            "Total estimated model params size (MB)",
        ),
        (all.len().to_string(), "Modules in train mode"),
        ("0".to_owned(), "Modules in eval mode"),
        (readable(0), "Total Flops"),
    ];
    lines.extend(totals.iter().map(|(number, what)| format!("{number:<10}{what}")));
    lines.join("\n")
}

/// All layers, each before those within it, and what they are within.
pub(crate) fn rows(store: &Store, count: &dyn Fn(&str) -> u64) -> Vec<Row> {
    let modules = store.modules.borrow();
    let mut known: Vec<(String, String)> = Vec::new();
    for (name, class) in modules.iter() {
        // What a model divides into paths by itself has no class of PyTorch's.
        for (end, _) in name.match_indices('.') {
            let parent = &name[..end];
            let there = |list: &[(String, String)]| list.iter().any(|(name, _)| name == parent);
            if !there(&known) && !there(&modules) {
                known.push((parent.to_owned(), "Module".to_owned()));
            }
        }
        known.push((name.clone(), class.clone()));
    }
    // A dropout that was made at the path of what it is part of is not that.
    let has_parts = |name: &str| {
        known
            .iter()
            .any(|(other, _)| other.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
    };
    let class = |name: &str, class: &str| match class {
        "Dropout" if has_parts(name) => "Module".to_owned(),
        class => class.to_owned(),
    };
    let mut rows = Vec::new();
    let mut open: Vec<&str> = vec![""];
    while let Some(parent) = open.pop() {
        if let Some((name, of)) = known.iter().find(|(name, _)| name == parent) {
            rows.push(Row {
                name: name.clone(),
                class: class(name, of),
                parameters: count(&format!("{name}.")),
            });
        }
        let above = |name: &str| name.rsplit_once('.').map_or("", |(above, _)| above).to_owned();
        let children = known.iter().filter(|(name, _)| above(name) == parent && name != parent);
        open.extend(children.rev().map(|(name, _)| name.as_str()));
    }
    rows
}

/// A number in thousands, millions and so on: one decimal below a hundred of them.
fn readable(number: u64) -> String {
    const UNITS: [&str; 5] = [" ", "K", "M", "B", "T"];
    let digits = number.max(1).ilog10() as usize + 1;
    let unit = (digits.div_ceil(3) - 1).min(UNITS.len() - 1);
    let value = number as f64 * 10f64.powi(-3 * unit as i32);
    if unit == 0 || value >= 100.0 {
        format!("{} {}", grouped(value.trunc(), 0), UNITS[unit])
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

/// A number with a comma after each thousand.
pub(crate) fn grouped(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    let (whole, rest) = text.split_once('.').unwrap_or((&text, ""));
    let digits = whole.as_bytes().rchunks(3).rev();
    let groups: Vec<String> = digits
        .map(|group| String::from_utf8_lossy(group).into_owned())
        .collect();
    let point = if rest.is_empty() { "" } else { "." };
    format!("{}{point}{rest}", groups.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_lightning_writes_them() {
        let written = [
            0,
            123,
            1234,
            99_999,
            100_000,
            2_000_000,
            3_000_000_000,
            400_000_000_000_000,
            5_000_000_000_000_000,
        ];
        let expected = [
            "0  ", "123  ", "1.2 K", "100.0 K", "100 K", "2.0 M", "3.0 B", "400 T", "5,000 T",
        ];
        assert_eq!(written.map(readable), expected);
        assert_eq!(grouped(1234.5678, 3), "1,234.568");
    }
}
