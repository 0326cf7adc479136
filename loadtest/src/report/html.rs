//! A report as one page: no script, and nothing from elsewhere.

use std::fmt::Write;

use super::{Cell, Plot, Report, Section, Table};

const STYLE: &str = include_str!("page.css");

pub fn page(report: &Report) -> String {
    let title = escape(&report.title);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n<style>\n{STYLE}</style>\n\
         </head>\n<body>\n<main>\n<header>\n<h1>{title}</h1>\n<p class=\"facts\">{}<br>{}</p>\n\
         <p><code>{}</code></p>\n</header>\n",
        escape(&report.machine.to_string()),
        escape(&report.date),
        escape(&report.command)
    );
    for part in &report.sections {
        section(&mut page, part);
    }
    page + "</main>\n</body>\n</html>\n"
}

fn section(page: &mut String, section: &Section) {
    let _ = writeln!(page, "<section>\n<h2>{}</h2>", escape(&section.title));
    for paragraph in section.words.split("\n\n").filter(|paragraph| !paragraph.is_empty()) {
        let _ = writeln!(page, "<p>{}</p>", escape(paragraph));
    }
    if let Some(data) = &section.table {
        table(page, data);
    }
    if !section.plots.is_empty() {
        page.push_str("<div class=\"plots\">\n");
        section.plots.iter().for_each(|plot| figure(page, plot));
        page.push_str("</div>\n");
    }
    page.push_str("</section>\n");
}

fn table(page: &mut String, table: &Table) {
    page.push_str("<div class=\"wide\"><table>\n<thead><tr>");
    for (nth, column) in table.columns.iter().enumerate() {
        // The first column has names, below a heading that is usually empty.
        let class = if nth == 0 { "" } else { " class=\"number\"" };
        let _ = write!(page, "<th{class}>{}</th>", escape(column));
    }
    page.push_str("</tr></thead>\n<tbody>\n");
    for row in &table.rows {
        page.push_str("<tr>");
        for (nth, cell) in row.iter().enumerate() {
            let class = if nth == 0 { "" } else { " class=\"number\"" };
            let text = escape(&cell.text());
            let text = match cell {
                Cell::Number { unit, .. } if !unit.is_empty() => {
                    text.replacen(&format!(" {unit}"), &format!(" <small>{unit}</small>"), 1)
                }
                _ => text,
            };
            let _ = write!(page, "<td{class}>{text}</td>");
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</tbody>\n</table></div>\n");
}

fn figure(page: &mut String, plot: &Plot) {
    let _ = write!(page, "<figure>\n<figcaption>{}", escape(plot.title()));
    let legend = plot.legend();
    if legend.len() > 1 {
        page.push_str("<span class=\"legend\">");
        for (nth, name) in legend.iter().enumerate() {
            let _ = write!(page, "<span><i class=\"c{}\"></i>{}</span>", nth % 6, escape(name));
        }
        page.push_str("</span>");
    }
    let _ = writeln!(page, "</figcaption>\n{}\n</figure>", plot.svg());
}

pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_told_is_text_and_not_markup() {
        const EVIL: &str = "<script>\"&";
        let text = || EVIL.to_owned();
        let mut data = Table::new(&[EVIL]);
        data.row(EVIL, [Cell::from(EVIL)]);
        let plots = vec![Plot::Bars { title: text(), unit: text(), bars: Vec::new() }];
        let sections = vec![Section { title: text(), words: text(), table: Some(data), plots }];
        let page = page(&Report { sections, command: text(), ..Report::begin(EVIL) });
        assert!(!page.contains("<script") && page.contains("&lt;script&gt;&quot;&amp;"));
    }

    #[test]
    fn the_page_asks_for_nothing() {
        let page = page(&Report::begin("A run"));
        for word in ["http://", "https://", "src=", "url(", "@import"] {
            assert!(!page.contains(word), "{word}");
        }
    }
}
