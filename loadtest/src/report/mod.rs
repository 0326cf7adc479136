//! What a run has to tell: for a terminal, as JSON, and as a page that needs nothing but itself.

mod html;
mod machine;
mod plots;
mod svg;

use std::fs::{self, File};
use std::path::PathBuf;

use anyhow::Context;
use serde::{Serialize, Serializer};

use crate::table;
pub use machine::Machine;

/// Where a report goes beside the terminal.
#[derive(clap::Args, Clone)]
pub struct Files {
    /// What was measured goes into this file too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The report with its plots goes into this file, a page that needs nothing but itself.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

#[derive(Serialize)]
pub struct Report {
    pub title: String,
    /// As it was called.
    pub command: String,
    /// RFC 3339, in UTC.
    pub date: String,
    pub machine: Machine,
    pub sections: Vec<Section>,
}

#[derive(Default, Serialize)]
pub struct Section {
    pub title: String,
    /// Paragraphs, with an empty line between two.
    pub words: String,
    pub table: Option<Table>,
    pub plots: Vec<Plot>,
}

/// The first column has names, the others have what was measured.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Table {
    pub columns: Vec<String>,
    pub rows: Vec<Vec<Cell>>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    Text(String),
    Number {
        value: f64,
        /// Empty, or what stands after the number.
        unit: &'static str,
        /// After the point.
        digits: usize,
    },
}

#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Plot {
    Lines {
        title: String,
        x_axis: String,
        y_axis: String,
        series: Vec<Series>,
    },
    /// Latency by percentile, on an axis that gives each further nine the same room.
    Percentiles {
        title: String,
        series: Vec<Series>,
    },
    /// Bars that lie, one below the other.
    Bars {
        title: String,
        unit: String,
        bars: Vec<Bar>,
    },
}

/// A line. Of [`Plot::Percentiles`] the points are a percentile below 100, and milliseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Series {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

/// One bar, of parts that follow each other.
#[derive(Clone, Debug, Serialize)]
pub struct Bar {
    pub name: String,
    pub parts: Vec<(String, f64)>,
}

impl Report {
    /// Of a run that begins now, here.
    pub fn begin(title: &str) -> Report {
        Report {
            title: title.to_owned(),
            command: std::env::args().skip(1).fold("loadtest".to_owned(), |all, word| all + " " + &word),
            date: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            machine: Machine::here(),
            sections: Vec::new(),
        }
    }

    /// For a terminal: everything but the plots.
    pub fn text(&self) -> String {
        let Report { title, date, machine, .. } = self;
        let mut text = format!("{title}\n{machine}, {date}\n");
        for section in &self.sections {
            text += &format!("\n{}\n", section.title);
            if !section.words.is_empty() {
                text += &format!("{}\n", section.words);
            }
            if let Some(table) = &section.table {
                text += &format!("\n{}", table.text());
            }
        }
        text
    }

    pub fn write(&self, files: &Files) -> anyhow::Result<()> {
        if let Some(path) = &files.json {
            let write = || anyhow::Ok(serde_json::to_writer_pretty(File::create(path)?, self)?);
            write().with_context(|| format!("writing {}", path.display()))?;
        }
        if let Some(path) = &files.html {
            fs::write(path, html::page(self)).with_context(|| format!("writing {}", path.display()))?;
        }
        Ok(())
    }
}

impl Table {
    pub fn new(columns: &[&str]) -> Table {
        Table { columns: columns.iter().map(|&column| column.to_owned()).collect(), rows: Vec::new() }
    }

    pub fn row(&mut self, name: impl Into<String>, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(std::iter::once(Cell::Text(name.into())).chain(cells).collect());
    }

    fn text(&self) -> String {
        let cells = self.rows.iter().map(|row| row.iter().map(Cell::text).collect());
        table::render(&std::iter::once(self.columns.clone()).chain(cells).collect::<Vec<_>>())
    }
}

impl Cell {
    pub fn number(value: f64, digits: usize) -> Cell {
        Cell::Number { value, unit: "", digits }
    }

    pub fn count(value: u64) -> Cell {
        Cell::number(value as f64, 0)
    }

    pub fn with_unit(value: f64, digits: usize, unit: &'static str) -> Cell {
        Cell::Number { value, unit, digits }
    }

    fn text(&self) -> String {
        match self {
            Cell::Text(text) => text.clone(),
            Cell::Number { value, unit: "", digits } => number(*value, *digits),
            Cell::Number { value, unit, digits } => format!("{} {unit}", number(*value, *digits)),
        }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Cell {
        Cell::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Cell {
        Cell::Text(text)
    }
}

impl Serialize for Cell {
    /// A number is itself: how it is shown is nothing to a program.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Cell::Text(text) => serializer.serialize_str(text),
            Cell::Number { value, .. } => serializer.serialize_f64(*value),
        }
    }
}

/// `31,400.50`; a dash if there is no number.
fn number(value: f64, digits: usize) -> String {
    if !value.is_finite() {
        return "–".to_owned();
    }
    let plain = format!("{value:.digits$}");
    let (sign, plain) = plain.strip_prefix('-').map_or(("", plain.as_str()), |plain| ("-", plain));
    let (whole, rest) = plain.find('.').map_or((plain, ""), |point| plain.split_at(point));
    let mut grouped = String::new();
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (whole.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_threes() {
        assert_eq!(number(31_400.5, 2), "31,400.50");
        assert_eq!(number(-1_234_567.0, 0), "-1,234,567");
        assert_eq!([number(999.0, 0), number(1000.0, 0)], ["999", "1,000"]);
        assert_eq!(number(f64::NAN, 1), "–");
    }

    #[test]
    fn the_text_has_each_section_and_its_table() {
        let mut table = Table::new(&["", "p99"]);
        table.row("steady", [Cell::with_unit(0.5, 2, "ms")]);
        let section = Section { title: "Steady".to_owned(), table: Some(table), ..Section::default() };
        let report = Report { sections: vec![section], ..Report::begin("A run") };
        let text = report.text();
        assert!(text.starts_with("A run\n"));
        assert!(text.ends_with("\nSteady\n\n              p99\n  steady  0.50 ms\n"), "{text}");
    }

    #[test]
    fn json_has_numbers_as_numbers() {
        let row = [Cell::from("steady"), Cell::with_unit(0.5, 2, "ms")];
        assert_eq!(serde_json::to_string(&row).unwrap(), r#"["steady",0.5]"#);
    }
}
