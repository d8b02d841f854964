//! What a check found, as lines.

use serde::Serialize;

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// As it should be.
    Ok,
    /// It works, but somebody should look.
    Warn,
    /// It does not work.
    Fail,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// What was looked at; the same name in every run.
    pub check: &'static str,
    /// How it came out.
    pub status: Status,
    /// What was found.
    pub found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

impl Line {
    /// As it should be.
    pub fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, status: Status::Ok, found: found.into(), fix: None }
    }

    /// Works, but.
    pub fn warn(check: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { check, status: Status::Warn, found: found.into(), fix: Some(fix.into()) }
    }

    /// Does not work.
    pub fn fail(check: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { check, status: Status::Fail, found: found.into(), fix: Some(fix.into()) }
    }
}

/// All lines.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// No check failed.
    pub ok: bool,
    /// The checks, in the order in which they depend on each other.
    pub checks: Vec<Line>,
}

impl Report {
    /// From its lines.
    pub fn new(checks: Vec<Line>) -> Self {
        Self { ok: checks.iter().all(|line| line.status != Status::Fail), checks }
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut lines = Vec::new();
        for Line { check, status, found, fix } in &self.checks {
            let mark = match status {
                Status::Ok => "ok  ",
                Status::Warn => "warn",
                Status::Fail => "FAIL",
            };
            lines.push(format!("{mark}  {check:<10} {found}"));
            lines.extend(fix.iter().map(|fix| format!("                 -> {fix}")));
        }
        let count = |status| self.checks.iter().filter(|line| line.status == status).count();
        lines.push(match (count(Status::Fail), count(Status::Warn)) {
            (0, 0) => "\nEverything is as it should be.".into(),
            (0, warnings) => format!("\nIt works; {warnings} to look at."),
            (failures, warnings) => format!("\n{failures} failed, {warnings} to look at."),
        });
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_decide_and_fixes_are_shown() {
        let good = Report::new(vec![Line::ok("key", "fine"), Line::warn("gas", "little", "send POL")]);
        assert!(good.ok && good.text().contains("-> send POL") && good.text().contains("1 to look at"));
        let bad = Report::new(vec![Line::fail("rpc", "down", "wait")]);
        assert!(!bad.ok && bad.text().contains("FAIL"));
        let json = serde_json::to_value(&bad).unwrap();
        assert_eq!(json["checks"][0]["status"], "fail");
    }
}
