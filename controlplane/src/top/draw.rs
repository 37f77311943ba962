//! The model as a screen.

use std::time::Instant;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row, Sparkline, Table, TableState};

use super::model::Model;
use super::snapshot::Snapshot;
use super::table::{View, short};

const ALARM: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
const HEAD: Style = Style::new().add_modifier(Modifier::BOLD);
const KEYS: &str = "1-5 tab: view   s S: sort   r: reverse   up down pgup pgdn: move   space: hold   q: quit";

/// Draws everything.
pub fn draw(frame: &mut Frame<'_>, model: &Model, now: Instant) {
    let [summary, traffic, tabs, table, message, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Min(2),
        Constraint::Length(1),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    match model.shown() {
        Some(shown) => {
            frame.render_widget(summary_line(model, shown), summary);
            draw_traffic(frame, model, shown, traffic);
            draw_table(frame, model, table);
        }
        None => {
            frame.render_widget(Line::from(format!("ringbridge at {}: nothing read yet", model.address())), summary)
        }
    }
    frame.render_widget(tabs_line(model), tabs);
    frame.render_widget(message_line(model, now), message);
    frame.render_widget(Line::from(KEYS).dim(), keys);
}

fn summary_line(model: &Model, shown: &Snapshot) -> Line<'static> {
    let mut spans = vec![Span::styled(format!("ringbridge {}", shown.version), HEAD)];
    spans.push(Span::from(format!(" at {}  ", model.address())));
    spans.push(match &shown.reason {
        None if shown.healthy => Span::styled("healthy", Style::new().fg(Color::Green)),
        reason => Span::styled(format!("unhealthy: {}", reason.as_deref().unwrap_or("no reason given")), ALARM),
    });
    if shown.drain {
        spans.push(Span::styled("  draining", Style::new().fg(Color::Yellow)));
    }
    if shown.shutdown_state != "RUNNING" {
        spans.push(Span::styled(format!("  {}", shown.shutdown_state), ALARM));
    }
    let stress = Style::new().fg(if shown.stress > 0.8 { Color::Red } else { Color::Reset });
    spans.push(Span::styled(format!("  stress {:.2}", shown.stress), stress));
    let xmpp = if shown.xmpp_connected < shown.xmpp_configured { ALARM } else { Style::new() };
    spans.push(Span::styled(format!("  xmpp {}/{}", shown.xmpp_connected, shown.xmpp_configured), xmpp));
    Line::from(spans)
}

/// The bridge's traffic in words.
pub fn traffic(shown: &Snapshot) -> String {
    let value = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), short);
    let total = &shown.total;
    format!(
        "conferences {}  endpoints {}  in {} p/s {} bit/s  out {} p/s {} bit/s  drops {}/s",
        shown.conferences.len(),
        shown.conferences.iter().map(|conference| conference.endpoints).sum::<usize>(),
        value(total.packets_in),
        value(total.bits_in),
        value(total.packets_out),
        value(total.bits_out),
        value(total.drops),
    )
}

/// The traffic now, and in what room is left the packets that went out before.
fn draw_traffic(frame: &mut Frame<'_>, model: &Model, shown: &Snapshot, area: Rect) {
    let text = traffic(shown);
    let [left, right] = Layout::horizontal([Constraint::Length(text.len() as u16 + 2), Constraint::Min(0)]).areas(area);
    frame.render_widget(Line::from(text), left);
    let mut history: Vec<u64> = model.history().rev().take(usize::from(right.width)).collect();
    history.reverse();
    frame.render_widget(Sparkline::default().data(history).style(Style::new().fg(Color::Cyan)), right);
}

fn tabs_line(model: &Model) -> Line<'static> {
    let tabs = View::ALL.map(|view| {
        let style = if view == model.view() { HEAD.add_modifier(Modifier::REVERSED) } else { Style::new() };
        [Span::styled(format!(" {} {} ", view.index() + 1, view.name()), style), Span::from(" ")]
    });
    Line::from(tabs.into_iter().flatten().collect::<Vec<_>>())
}

fn draw_table(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    let columns = model.view().columns();
    let (sorted, largest_first) = model.order();
    let head = columns.iter().enumerate().map(|(n, column)| {
        let name = match (n == sorted, largest_first) {
            (true, true) => format!("{}v", column.name),
            (true, false) => format!("{}^", column.name),
            (false, _) => column.name.to_owned(),
        };
        aligned(name, column.text)
    });
    let rows = model.rows().into_iter().map(|row| {
        Row::new(row.into_iter().zip(columns).map(|(cell, column)| {
            let style = if cell.alarm { ALARM } else { Style::new() };
            aligned(cell.text, column.text).style(style)
        }))
    });
    // One more for the mark of the order.
    let widths = columns.iter().map(|column| match column.text {
        true => Constraint::Max(column.width + 1),
        false => Constraint::Length(column.width + 1),
    });
    let table = Table::new(rows, widths)
        .header(Row::new(head).style(HEAD))
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut state = TableState::new().with_selected(Some(model.selected()));
    frame.render_stateful_widget(table, area, &mut state);
}

fn aligned(text: String, left: bool) -> Cell<'static> {
    let line = Line::from(text);
    Cell::from(if left { line.left_aligned() } else { line.right_aligned() })
}

fn message_line(model: &Model, now: Instant) -> Paragraph<'static> {
    match model.failure(now) {
        Some((failure, Some(age))) => {
            Paragraph::new(format!("{failure} (what is shown is {} s old)", age.as_secs())).style(ALARM)
        }
        Some((failure, None)) => Paragraph::new(failure.to_owned()).style(ALARM),
        None if model.paused() => Paragraph::new("held; space goes on").style(Style::new().fg(Color::Yellow)),
        None => Paragraph::new(""),
    }
}
