//! The matrix as one page of HTML that needs nothing else: no date, no machine, no address in it, so that the same runs
//! give the same page.

mod data;
mod heat;
mod shades;
mod stories;

use std::fmt::Write as _;

use super::report::Matrix;
use shades::Measure;

const STYLE: &str = include_str!("page/style.css");
const SCRIPT: &str = include_str!("page/script.js");

/// The page. Runs one run of each pair again, for its diagram.
pub fn page(matrix: &Matrix<'_>) -> String {
    let mut out = String::from(HEAD);
    let _ = write!(out, "<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n");
    out.push_str(&header(matrix));
    out.push_str(&controls(matrix));
    out.push_str("<div class=\"stage\">\n<div class=\"heat\">\n");
    out.push_str(&heat::svg(matrix));
    out.push_str("</div>\n");
    out.push_str(PANEL);
    out.push_str("</div>\n");
    out.push_str(DIAGRAM);
    out.push_str(&classes(matrix));
    out.push_str(&kinds(matrix));
    out.push_str("</main>\n");
    let _ = writeln!(out, "<script type=\"application/json\" id=\"data\">{}</script>", data::json(matrix));
    let _ = write!(out, "<script>\n{SCRIPT}</script>\n</body>\n</html>\n");
    out
}

/// Nothing may be loaded from anywhere: the browser sees to it.
const HEAD: &str = "<!doctype html>
<html lang=\"en\">
<head>
<meta charset=\"utf-8\"/>
<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>
<meta name=\"color-scheme\" content=\"light dark\"/>
<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; script-src \
    'unsafe-inline'\"/>
<title>direc: every NAT against every NAT</title>
";

const PANEL: &str = "<section class=\"panel\" aria-label=\"The chosen pair\">
<h2 id=\"pair\">A pair</h2>
<p id=\"verdict\"></p>
<div id=\"missed\" class=\"missed\" hidden=\"hidden\"></div>
<table id=\"figures\"></table>
<p id=\"replay\" class=\"replay\"></p>
</section>
";

const DIAGRAM: &str = "<section class=\"diagram\" aria-labelledby=\"run\">
<h2 id=\"run\">One run</h2>
<p id=\"about\">Choose a cell to see a run of its pair.</p>
<div id=\"lanes\" class=\"lanes\"></div>
</section>
";

fn header(matrix: &Matrix<'_>) -> String {
    let missed = matrix.reports.iter().filter(|report| !report.missed.is_empty()).count();
    let verdict = match missed {
        0 => "All of them keep their limits.".to_owned(),
        1 => "One misses its limit.".to_owned(),
        missed => format!("{missed} miss their limits; they are marked."),
    };
    let (pairs, runs) = (matrix.plan.kinds.len().pow(2), thousands(matrix.runs()));
    let (cells, seed) = (matrix.reports.len(), matrix.plan.seed);
    format!(
        "<h1>Every NAT against every NAT</h1>\n<p class=\"lead\">Two peers, each behind a NAT, are introduced by a relay. \
         How often does data go straight, and how soon? {pairs} pairs, {runs} runs of the real protocol in a simulated \
         network, each held against an oracle that knows NATs (RFC 4787) and no protocol. Seeds from {seed} on; the same \
         seeds give this page to the byte.</p>\n<p class=\"lead\"><strong>{cells} cells. {verdict}</strong></p>\n"
    )
}

/// A number with commas, for people.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// What is shown: the measure, and the condition.
fn controls(matrix: &Matrix<'_>) -> String {
    let mut out = String::from("<form class=\"controls\">\n");
    let mut choice = |name: &str, title: &str, labels: &[String]| {
        let _ = writeln!(out, "<fieldset><legend>{title}</legend>");
        for (number, label) in labels.iter().enumerate() {
            let checked = if number == 0 { " checked=\"checked\"" } else { "" };
            let input = format!("<input type=\"radio\" name=\"{name}\" value=\"{number}\"{checked}/>");
            let _ = writeln!(out, "<label>{input}<span>{}</span></label>", escape(label));
        }
        out.push_str("</fieldset>\n");
    };
    choice("measure", "Show", &Measure::ALL.map(|measure| measure.what().to_owned()));
    let conditions: Vec<String> = matrix.plan.conditions.iter().map(|condition| condition.words()).collect();
    choice("condition", "With", &conditions);
    out.push_str("</form>\n");
    for (number, measure) in Measure::ALL.iter().enumerate() {
        let _ = writeln!(out, "<ul class=\"key\" data-measure=\"{number}\">");
        for (shade, words) in measure.key() {
            let _ = writeln!(out, "<li><span class=\"chip {shade}\"></span>{}</li>", escape(words));
        }
        out.push_str("<li><span class=\"chip bad\"></span>misses its limit</li>\n</ul>\n");
    }
    out
}

/// The table of classes.
fn classes(matrix: &Matrix<'_>) -> String {
    let mut out = String::from(
        "<section>\n<h2>By what the oracle says</h2>\n<div class=\"wide\"><table class=\"classes\">\n<thead><tr>\
         <th>Class</th><th>Condition</th><th>Pairs</th><th>Runs</th><th>Direct</th><th>Median, ms</th>\
         <th>95th percentile</th><th>Miss their limit</th></tr></thead>\n<tbody>\n",
    );
    for row in &matrix.classes {
        let [rate, median, slow] = super::text::columns(&row.figures);
        let (class, condition, runs) = (row.class.what(), row.condition.words(), thousands(row.figures.runs));
        let (bad, missed) = (if row.missed > 0 { " class=\"bad\"" } else { "" }, row.missed);
        let _ = writeln!(
            out,
            "<tr{bad}><th>{class}</th><td>{condition}</td><td>{}</td><td>{runs}</td><td>{rate}</td><td>{median}</td>\
             <td>{slow}</td><td>{missed}</td></tr>",
            row.cells
        );
    }
    out.push_str(
        "</tbody>\n</table></div>\n<p class=\"note\">In brackets: intervals at 95 % confidence; Wilson's for rates, the \
         sign test's, which asks nothing of the distribution, for medians. Time to direct: from the call until the client \
         has authenticated a packet that came straight from the server, QUIC's or a probe's echo. Its bound: a + b + c, \
         the one-way delays client–relay, relay–server and client–server; 2a + 2c where the server has to learn the \
         client's port from the client's own packet first.</p>\n</section>\n",
    );
    out
}

/// What the kinds are.
fn kinds(matrix: &Matrix<'_>) -> String {
    let mut out = String::from("<section>\n<h2>The NATs</h2>\n<dl>\n");
    for kind in matrix.plan.kinds.iter().filter(|kind| !kind.what.is_empty()) {
        let _ = writeln!(out, "<dt>{}</dt><dd>{}</dd>", escape(&kind.name), escape(kind.what));
    }
    out.push_str("</dl>\n</section>\n");
    out
}

/// Text as it may stand in HTML, between tags and in attributes.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
