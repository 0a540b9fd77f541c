//! The heat map: SVG with a cell for each pair, the first condition's success shown.

use std::fmt::Write as _;

use super::{escape, shades::Measure};
use crate::matrix::report::{Matrix, Report};

/// A cell's size, in user units: also pixels, where there is room.
const CELL: [usize; 2] = [42, 30];
/// One character of a name, about.
const LETTER: usize = 8;

/// The picture.
pub(super) fn svg(matrix: &Matrix<'_>) -> String {
    let kinds = &matrix.plan.kinds;
    let longest = kinds.iter().map(|kind| kind.name.chars().count()).max().unwrap_or(0);
    // Names stand left of their rows, and slanted above their columns.
    let left = 34 + longest * LETTER;
    let top = 40 + longest * LETTER * 7 / 10;
    let [w, h] = CELL;
    let (width, height) = (left + kinds.len() * w + longest * LETTER * 6 / 10, top + kinds.len() * h + 6);
    let mut out = format!(
        "<svg id=\"heat\" role=\"grid\" aria-label=\"Pairs of NATs: rows are in front of the client, columns in front of the server\" \
         viewBox=\"0 0 {width} {height}\" style=\"min-width: {}px; max-width: {}px\">\n{HATCH}",
        width * 4 / 5,
        width * 5 / 4
    );
    let _ = write!(
        out,
        "<text class=\"axis\" x=\"{}\" y=\"14\">in front of the server</text>\n\
         <text class=\"axis\" transform=\"translate(14 {}) rotate(-90)\">in front of the client</text>\n",
        left,
        top + kinds.len() * h
    );
    for (number, kind) in kinds.iter().enumerate() {
        let (x, y, name) = (left + number * w + w / 2, top - 8, escape(&kind.name));
        let title = escape(kind.what);
        let _ = writeln!(
            out,
            "<text class=\"name\" id=\"column{number}\" transform=\"translate({x} {y}) rotate(-42)\">{name}\
             <title>{title}</title></text>"
        );
    }
    let Some(&condition) = matrix.plan.conditions.first() else { return out + "</svg>\n" };
    let reports: Vec<&Report<'_>> = matrix.grid(condition).collect();
    for (number, row) in reports.chunks(kinds.len()).enumerate() {
        let y = top + number * h;
        let (name, title) = (escape(&kinds[number].name), escape(kinds[number].what));
        let _ = writeln!(
            out,
            "<g role=\"row\"><text class=\"name row\" id=\"row{number}\" role=\"rowheader\" x=\"{}\" y=\"{}\">{name}\
             <title>{title}</title></text>",
            left - 8,
            y + h / 2 + 5
        );
        for (column, report) in row.iter().enumerate() {
            out.push_str(&cell(report, number * kinds.len() + column, [left + column * w, y]));
        }
        out.push_str("</g>\n");
    }
    out + "</svg>\n"
}

/// Lines across what stays on the relay: it is told apart without any colour.
const HATCH: &str = "<defs><pattern id=\"hatch\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" \
    patternTransform=\"rotate(45)\"><rect class=\"ground\" width=\"6\" height=\"6\"/><line class=\"hatch\" x1=\"0\" \
    y1=\"0\" x2=\"0\" y2=\"6\"/></pattern></defs>\n";

fn cell(report: &Report<'_>, number: usize, [x, y]: [usize; 2]) -> String {
    let [w, h] = CELL;
    let (shade, label) = Measure::Success.shows(report);
    let bad = if report.missed.is_empty() { "" } else { " bad" };
    let tab = if number == 0 { 0 } else { -1 };
    let (one, other) = (escape(&report.cell.one.name), escape(&report.cell.other.name));
    let (cx, cy) = (w / 2, h / 2 + 4);
    // A corner marks what misses its limit.
    format!(
        "<g class=\"cell {shade}{bad}\" role=\"gridcell\" tabindex=\"{tab}\" data-n=\"{number}\" \
         aria-label=\"{one} × {other}\" transform=\"translate({x} {y})\"><rect x=\"1\" y=\"1\" width=\"{}\" \
         height=\"{}\" rx=\"3\"/><text x=\"{cx}\" y=\"{cy}\">{label}</text><path d=\"M{} 2h10v10z\"/></g>\n",
        w - 2,
        h - 2,
        w - 12
    )
}
