//! Walking tables: several columns side by side, many rows at a time, and never without an end.

use tokio::time::Instant;

use super::{
    oid::Oid,
    session::{Failure, Held, Session, Status},
};

/// No PDU has more outlets, no switch more ports; a table that is longer never ends.
const MOST_ROWS: usize = 1024;

impl Session {
    /// Whole columns of tables, walked side by side: index and value of each row.
    pub async fn columns<const N: usize>(
        &mut self,
        columns: [&Oid; N],
        by: Instant,
    ) -> Result<[Vec<(Vec<u32>, Held)>; N], Failure> {
        let mut rows = [const { Vec::new() }; N];
        // Where the walk of each column is; None at its end.
        let mut at = columns.map(|column| Some(column.clone()));
        let mut rows_at_once = self.rows_at_once;
        while at.iter().any(Option::is_some) {
            let asked: Vec<(usize, Oid)> = (0..N)
                .filter_map(|i| Some((i, at[i].as_ref()?)))
                .flat_map(|(i, from)| {
                    let width = if self.bulk { 1 } else { rows_at_once };
                    guesses(columns[i], from, width).map(move |oid| (i, oid))
                })
                .collect();
            let oids: Vec<Oid> = asked.iter().map(|(_, oid)| oid.clone()).collect();
            let repeat = if self.bulk { rows_at_once } else { 1 };
            let answer = match self.next(&oids, repeat, by).await {
                // Some agents know GETBULK by name only, and small ones cannot say so much at once.
                Err(Failure::Status(Status::Failed(_))) if rows_at_once > 1 => {
                    (self.bulk, self.rows_at_once, rows_at_once) = (false, 1, 1);
                    continue;
                }
                // So says version 1 at the end of all that it has, without telling for which of the questions.
                Err(Failure::Status(Status::NoSuchName)) if rows_at_once > 1 => {
                    rows_at_once = 1;
                    continue;
                }
                Err(Failure::Status(Status::NoSuchName)) => {
                    for i in 0..N {
                        let rest = self.column(columns[i], at[i].take(), by).await?;
                        rows[i].extend(rest);
                    }
                    break;
                }
                other => other?,
            };
            if answer.is_empty() {
                return Err(self.strange("an empty answer to a walk"));
            }
            for (n, (oid, value)) in answer.into_iter().enumerate() {
                let (i, asked) = &asked[n % asked.len()];
                let after = if n < oids.len() { Some(asked) } else { at[*i].as_ref() };
                let after = after.cloned();
                self.step(columns[*i], after, &mut at[*i], &mut rows[*i], oid, value)?;
            }
        }
        Ok(rows)
    }

    /// The rest of one column, of an agent of version 1.
    async fn column(
        &mut self,
        column: &Oid,
        mut at: Option<Oid>,
        by: Instant,
    ) -> Result<Vec<(Vec<u32>, Held)>, Failure> {
        let mut rows = Vec::new();
        while let Some(from) = &at {
            match self.next(std::slice::from_ref(from), 1, by).await {
                Ok(answer) => match answer.into_iter().next() {
                    Some((oid, value)) => {
                        self.step(column, Some(from.clone()), &mut at, &mut rows, oid, value)?;
                    }
                    None => return Err(self.strange("an empty answer to a walk")),
                },
                Err(Failure::Status(Status::NoSuchName)) => at = None,
                Err(failure) => return Err(failure),
            }
        }
        Ok(rows)
    }

    /// Takes one row in, or ends the column's walk. The row is the answer to "what follows `after`?".
    fn step(
        &self,
        column: &Oid,
        after: Option<Oid>,
        at: &mut Option<Oid>,
        rows: &mut Vec<(Vec<u32>, Held)>,
        oid: Oid,
        value: Held,
    ) -> Result<(), Failure> {
        let (Some(after), Some(last)) = (after, at.as_ref()) else { return Ok(()) };
        let Some(index) = oid.below(column).filter(|_| value != Held::Nothing) else {
            *at = None;
            return Ok(());
        };
        if oid <= after {
            return Err(self.strange(&format!("its table {column} goes round in a circle")));
        }
        if oid <= *last {
            // Two questions had the same answer: there is a gap in the table.
            return Ok(());
        }
        if rows.len() >= MOST_ROWS {
            return Err(self.strange(&format!("its table {column} has more than {MOST_ROWS} rows")));
        }
        rows.push((index.to_vec(), value));
        *at = Some(oid);
        Ok(())
    }
}

/// Places to go on from in a column, for an agent without GETBULK: the last row, and those that probably follow it.
///
/// What comes after `.5`, after `.6`, after `.7` is `.6`, `.7`, `.8` where there is no gap, and where there is one, the
/// same row twice; no row is left out, whatever the guesses are worth.
fn guesses(column: &Oid, from: &Oid, width: u32) -> impl Iterator<Item = Oid> {
    let width = if from == column { 1 } else { width };
    let (row, last) = from.arcs().split_last().map_or((&[][..], 0), |(last, row)| (row, *last));
    let row = Oid::of(row);
    (0..width).map(move |n| row.with(&[last.saturating_add(n)]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        DriverError,
        drivers::snmp::access::{Access, Credentials},
    };

    fn session() -> Session {
        let credentials = Credentials::V1("private".to_owned());
        Session::new(Access::new("127.0.0.1:1".to_owned(), &credentials).unwrap())
    }

    /// Walks a column of an agent that has these rows (and something else behind them), in memory.
    fn walk(rows: &[u32], width: u32) -> Vec<u32> {
        let column = Oid::of(&[1, 3, 6, 1]);
        let behind = Oid::of(&[1, 3, 6, 2, 0]);
        let all: Vec<Oid> = rows.iter().map(|row| column.with(&[*row])).chain([behind]).collect();
        let follows = |oid: &Oid| all.iter().find(|one| *one > oid).cloned().unwrap();
        let (mut at, mut found) = (Some(column.clone()), Vec::new());
        while let Some(from) = at.clone() {
            for asked in guesses(&column, &from, width) {
                let answer = follows(&asked);
                session().step(&column, Some(asked), &mut at, &mut found, answer, Held::Number(1)).unwrap();
            }
        }
        found.into_iter().map(|(index, _)| index[0]).collect()
    }

    proptest! {
        #[test]
        fn guessing_leaves_no_row_out(rows in proptest::collection::btree_set(0_u32..60, 0..40), width in 1_u32..12) {
            let rows: Vec<u32> = rows.into_iter().collect();
            prop_assert_eq!(walk(&rows, width), rows);
        }
    }

    #[test]
    fn a_table_without_an_end_is_refused() {
        let column = Oid::of(&[1, 3]);
        let (mut at, mut rows) = (Some(column.clone()), Vec::new());
        let mut step = |n: u32| {
            let after = at.clone();
            session().step(&column, after, &mut at, &mut rows, column.with(&[n]), Held::Number(1))
        };
        for n in 1..=MOST_ROWS as u32 {
            step(n).unwrap();
        }
        assert!(
            matches!(step(5), Err(Failure::Driver(DriverError::Protocol(text))) if text.contains("circle"))
        );
        assert!(
            matches!(step(5000), Err(Failure::Driver(DriverError::Protocol(text))) if text.contains("more than"))
        );
    }
}
