//! Outlets as a table of an SNMP agent: a column with states, one to write to, one with labels.
//!
//! Almost every SNMP PDU is such a table; the drivers differ in its object identifiers and numbers only.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use farmgate_protocol::{PortId, pdu::PortState};
use tokio::time::Instant;

use super::{
    access::Access,
    oid::{Oid, join_arcs, parse_arcs},
    session::{CALL_WITHIN, Failure, Held, Session, Status},
    text,
};
use crate::{Driver, DriverError, PortInfo, drivers::round::Round};

/// The numbers that a table writes and shows.
#[derive(Debug, Clone)]
pub struct Mapping {
    pub on: i32,
    pub off: i32,
    /// What a number that is read means; any other is UNKNOWN.
    pub read: BTreeMap<i64, PortState>,
}

impl Mapping {
    /// The same numbers are written and read.
    pub fn new(on: i32, off: i32, reboot: Option<i32>) -> Self {
        let mut read = BTreeMap::new();
        if let Some(reboot) = reboot {
            read.insert(i64::from(reboot), PortState::Reboot);
        }
        read.insert(i64::from(on), PortState::On);
        read.insert(i64::from(off), PortState::Off);
        Self { on, off, read }
    }
}

/// A column with a measurement.
#[derive(Debug, Clone)]
pub struct Metered {
    pub column: Oid,
    /// Watts, or joules, per count.
    pub unit: f64,
}

/// Where the outlets are, and how they are spoken of.
#[derive(Debug, Clone)]
pub struct Table {
    pub labels: Option<Oid>,
    pub status: Oid,
    pub control: Oid,
    pub mapping: Mapping,
    pub power: Option<Metered>,
    pub energy: Option<Metered>,
    /// The first number of the index is left out of the id where it is this one.
    pub home: Option<u32>,
    /// Outlets are interfaces of a switch, which may have names at these distances (`ifIndex` - port number).
    pub interfaces: &'static [u32],
    /// What an outlet without a label is called, before its id.
    pub called: &'static str,
    /// How long a state that is read after a command may still be the old one.
    pub settles_in: Duration,
    pub min_off_time: Duration,
}

impl Table {
    pub fn new(status: Oid, mapping: Mapping) -> Self {
        Self {
            labels: None,
            control: status.clone(),
            status,
            mapping,
            power: None,
            energy: None,
            home: None,
            interfaces: &[],
            called: "outlet",
            settles_in: Duration::ZERO,
            min_off_time: Duration::from_secs(30),
        }
    }

    /// The id of a row: its index, without the first number where that is the usual one.
    pub fn id(&self, index: &[u32]) -> Option<PortId> {
        let shown = match (self.home, index) {
            (Some(home), [first, rest @ ..]) if *first == home && !rest.is_empty() => rest,
            _ => index,
        };
        PortId::new(&join_arcs(shown)).ok()
    }

    /// The index of an id, in one of the spellings that [`id`](Self::id) makes.
    pub fn index(&self, id: &PortId) -> Result<Vec<u32>, DriverError> {
        let unknown = || DriverError::UnknownPort(id.clone());
        let arcs = parse_arcs(id.as_str()).filter(|arcs| arcs.len() <= 16).ok_or_else(unknown)?;
        let index = match (self.home, arcs.as_slice()) {
            (Some(home), [port]) => vec![home, *port],
            _ => arcs,
        };
        // "1.5" where the id is "5": an outlet has one id.
        if self.id(&index).as_ref() == Some(id) { Ok(index) } else { Err(unknown()) }
    }
}

/// How many states one packet asks for: the answer stays below 1 KB.
const TOGETHER: usize = 24;

/// One PDU.
pub struct Outlets {
    session: Session,
    table: Table,
    /// The rows that there were when it was last asked for all of them; empty where it cannot be asked for several.
    known: Vec<Vec<u32>>,
    round: Round<BTreeMap<Vec<u32>, PortState>>,
    last_read: Option<PortId>,
}

impl Outlets {
    pub fn new(access: Access, table: Table) -> Self {
        let session = Session::new(access);
        Self { session, table, known: Vec::new(), round: Round::default(), last_read: None }
    }

    /// Rows of the table: index and label, in the table's order.
    async fn rows(&mut self, by: Instant) -> Result<Vec<(Vec<u32>, String)>, Failure> {
        let status = self.table.status.clone();
        let (rows, labels) = match &self.table.labels.clone() {
            Some(labels) => {
                let [rows, labels] = self.session.columns([&status, labels], by).await?;
                (rows, labels)
            }
            None => {
                let [rows] = self.session.columns([&status], by).await?;
                (rows, Vec::new())
            }
        };
        let mut labels: BTreeMap<_, _> = labels.into_iter().collect();
        let label = |index: &Vec<u32>| match labels.remove(index) {
            Some(Held::Text(bytes)) => text::label(&bytes),
            _ => String::new(),
        };
        let indices: Vec<_> = rows.into_iter().map(|(index, _)| index).collect();
        let labels: Vec<_> = indices.iter().map(label).collect();
        Ok(indices.into_iter().zip(labels).collect())
    }

    /// The switch's names of its ports, where it has them at a place that can be told for sure.
    async fn interfaces(&mut self, rows: &mut [(Vec<u32>, String)], by: Instant) -> Result<(), Failure> {
        for distance in self.table.interfaces {
            let nameless: Vec<_> = rows
                .iter_mut()
                .filter(|(_, label)| label.is_empty())
                .filter_map(|(index, label)| Some((*index.last()?, label)))
                .collect();
            for mut chunk in chunks(nameless, 10) {
                let numbers: Vec<u32> = chunk.iter().map(|(port, _)| *port).collect();
                let names = self.names(&numbers, *distance, by).await?;
                for ((_, label), name) in chunk.iter_mut().zip(names) {
                    **label = name.unwrap_or_default();
                }
            }
        }
        Ok(())
    }

    /// Names of the interfaces of these ports: description and, where a person gave one, alias.
    async fn names(
        &mut self,
        ports: &[u32],
        distance: u32,
        by: Instant,
    ) -> Result<Vec<Option<String>>, Failure> {
        let (descriptions, aliases) = (Oid::of(super::IF_DESCR), Oid::of(super::IF_ALIAS));
        let interface = |port: &u32| port.saturating_add(distance);
        // The successor of the row before: version 1 can answer that too when a row is missing.
        let before = |column: &Oid, port: &u32| match interface(port).checked_sub(1) {
            Some(0) | None => column.clone(),
            Some(row) => column.with(&[row]),
        };
        let asked: Vec<_> =
            ports.iter().flat_map(|p| [before(&descriptions, p), before(&aliases, p)]).collect();
        let answer = match self.session.successors(&asked, by).await {
            Ok(answer) => answer,
            // It has no such tables: outlets stay nameless.
            Err(Failure::Status(_)) => return Ok(vec![None; ports.len()]),
            Err(failure) => return Err(failure),
        };
        let found = |column: &Oid, port: &u32| {
            let wanted = column.with(&[interface(port)]);
            answer.iter().find_map(|(oid, held)| match held {
                Held::Text(bytes) if *oid == wanted => Some(text::label(bytes)),
                _ => None,
            })
        };
        let name = |port: &u32| {
            let description = found(&descriptions, port).filter(|name| text::ends_in(name, *port))?;
            let alias = found(&aliases, port).filter(|alias| !alias.is_empty() && *alias != description);
            Some(alias.map_or(description.clone(), |alias| format!("{description}: {alias}")))
        };
        Ok(ports.iter().map(name).collect())
    }

    fn state(&self, held: &Held) -> Option<PortState> {
        match held {
            Held::Number(number) => Some(self.table.mapping.read.get(number).copied().unwrap_or_default()),
            _ => None,
        }
    }

    /// The states of this port and of those behind it, in one packet; whoever polls one port polls the others too.
    /// None where that is not possible, or this port alone is watched: then it is to be asked for alone.
    async fn together(
        &mut self,
        port: &PortId,
        index: &[u32],
        by: Instant,
    ) -> Result<Option<PortState>, Failure> {
        let watched = self.last_read.replace(port.clone()).as_ref() == Some(port);
        let Some(here) = self.known.iter().position(|known| known == index).filter(|_| !watched) else {
            self.round.forget();
            return Ok(None);
        };
        let asked: Vec<_> = self.known.iter().skip(here).take(TOGETHER).cloned().collect();
        let oids: Vec<_> = asked.iter().map(|index| self.table.status.with(index)).collect();
        let answer = match self.session.get_many(&oids, by).await {
            Ok(answer) => answer,
            // One of the outlets is gone, and version 1 does not say which; or it is too much for a small agent.
            Err(Failure::Status(_)) => {
                self.known.clear();
                return Ok(None);
            }
            Err(failure) => return Err(failure),
        };
        let states =
            asked.into_iter().zip(&answer).filter_map(|(index, held)| Some((index, self.state(held)?)));
        let states: BTreeMap<_, _> = states.collect();
        Ok(self.round.begin(states, port).get(index).copied())
    }

    async fn measure(
        &mut self,
        port: &PortId,
        what: Option<Metered>,
        name: &'static str,
    ) -> Result<f64, DriverError> {
        let Some(metered) = what else { return Err(DriverError::Unavailable(name)) };
        let oid = metered.column.with(&self.table.index(port)?);
        match self.session.get(&oid, Instant::now() + CALL_WITHIN).await {
            // -1 is how devices without a meter fill the column.
            Ok(Held::Number(count)) if count >= 0 => Ok(count as f64 * metered.unit),
            Ok(_) => Err(DriverError::Unavailable(name)),
            Err(failure) => Err(plain(failure)),
        }
    }

    /// A command was refused in a way that has several reasons: which one is it?
    async fn why_not(&mut self, port: &PortId, index: &[u32], said: &str, by: Instant) -> DriverError {
        match self.session.get(&self.table.status.with(index), by).await {
            Ok(Held::Nothing) => DriverError::UnknownPort(port.clone()),
            _ => DriverError::Refused(format!(
                "port {port} may be read but not switched ({said}): give the community or user of this `config` the \
                 right to write, in the PDU's SNMP settings"
            )),
        }
    }
}

fn chunks<T>(all: Vec<T>, size: usize) -> Vec<Vec<T>> {
    let mut all = all.into_iter();
    std::iter::from_fn(|| Some(all.by_ref().take(size).collect::<Vec<_>>()).filter(|chunk| !chunk.is_empty()))
        .collect()
}

/// A failure where no answer of the agent has a special meaning.
fn plain(failure: Failure) -> DriverError {
    match failure {
        Failure::Driver(error) => error,
        Failure::Status(Status::NoSuchName) => {
            DriverError::Protocol("it has no such table (noSuchName)".to_owned())
        }
        Failure::Status(Status::MayNotWrite(status)) => {
            DriverError::Refused(format!("{status}: this community or user may not see the table"))
        }
        Failure::Status(Status::WrongValue(status) | Status::Failed(status)) => {
            DriverError::Protocol(status.to_string())
        }
    }
}

#[async_trait]
impl Driver for Outlets {
    async fn ports(&mut self) -> Result<Vec<PortInfo>, DriverError> {
        let by = Instant::now() + CALL_WITHIN;
        let mut rows = self.rows(by).await.map_err(plain)?;
        self.interfaces(&mut rows, by).await.map_err(plain)?;
        if rows.is_empty() {
            tracing::warn!(table = %self.table.status, "the PDU has no outlets there: is `driver` right for this model?");
        }
        self.round.forget();
        self.known = rows.iter().map(|(index, _)| index.clone()).collect();
        let info = |(index, label): (Vec<u32>, String)| {
            let id = self.table.id(&index)?;
            let label = if label.is_empty() { format!("{} {id}", self.table.called) } else { label };
            Some(PortInfo { id, label })
        };
        Ok(rows.into_iter().filter_map(info).collect())
    }

    async fn read(&mut self, port: &PortId) -> Result<PortState, DriverError> {
        let by = Instant::now() + CALL_WITHIN;
        let index = self.table.index(port)?;
        if let Some(state) = self.round.serve(port).and_then(|states| states.get(&index)).copied() {
            self.last_read = Some(port.clone());
            return Ok(state);
        }
        if let Some(state) = self.together(port, &index, by).await.map_err(plain)? {
            return Ok(state);
        }
        let oid = self.table.status.with(&index);
        match self.session.get(&oid, by).await {
            Ok(held @ Held::Number(_)) => Ok(self.state(&held).unwrap_or_default()),
            Ok(Held::Nothing) => Err(DriverError::UnknownPort(port.clone())),
            Ok(Held::Text(_) | Held::Other) => Err(DriverError::Protocol(format!("{oid} is no number"))),
            Err(failure) => Err(plain(failure)),
        }
    }

    async fn write(&mut self, port: &PortId, on: bool) -> Result<(), DriverError> {
        let by = Instant::now() + CALL_WITHIN;
        let index = self.table.index(port)?;
        self.round.forget();
        let oid = self.table.control.with(&index);
        let number = if on { self.table.mapping.on } else { self.table.mapping.off };
        match self.session.set(&oid, number, by).await {
            Ok(()) => Ok(()),
            Err(Failure::Driver(error)) => Err(error),
            Err(Failure::Status(Status::NoSuchName)) => {
                Err(self.why_not(port, &index, "noSuchName", by).await)
            }
            Err(Failure::Status(Status::MayNotWrite(status))) => {
                Err(self.why_not(port, &index, &status.to_string(), by).await)
            }
            Err(Failure::Status(Status::WrongValue(status))) => {
                Err(DriverError::Protocol(format!("{oid} does not take the number {number} ({status})")))
            }
            Err(Failure::Status(Status::Failed(status))) => {
                Err(DriverError::Refused(format!("{status} for port {port}")))
            }
        }
    }

    fn default_min_off_time(&self) -> Duration {
        self.table.min_off_time
    }

    fn settle_time(&self) -> Duration {
        self.table.settles_in
    }

    async fn power(&mut self, port: &PortId) -> Result<f64, DriverError> {
        self.measure(port, self.table.power.clone(), "power metering").await
    }

    async fn energy(&mut self, port: &PortId) -> Result<f64, DriverError> {
        self.measure(port, self.table.energy.clone(), "energy metering").await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(home: Option<u32>) -> Table {
        Table { home, ..Table::new(Oid::of(&[1, 3, 6]), Mapping::new(1, 2, Some(3))) }
    }

    #[test]
    fn an_outlet_has_exactly_one_id() {
        for (home, index, id) in [
            (None, &[5][..], "5"),
            (None, &[1, 10], "1.10"),
            (Some(1), &[1, 5], "5"),
            (Some(1), &[2, 5], "2.5"),
        ] {
            let id = PortId::new(id).unwrap();
            assert_eq!(table(home).id(index), Some(id.clone()));
            assert_eq!(table(home).index(&id).unwrap(), index);
        }
        for (home, id) in [(None, "05"), (None, "a"), (None, "-1"), (Some(1), "1.5"), (None, "4294967296")] {
            let unknown = table(home).index(&PortId::new(id).unwrap());
            assert!(matches!(unknown, Err(DriverError::UnknownPort(_))), "{id}");
        }
    }

    #[test]
    fn a_number_that_nobody_knows_is_no_state() {
        let mapping = Mapping::new(1, 2, Some(3));
        assert_eq!(mapping.read.get(&4), None);
        assert_eq!(mapping.read[&3], PortState::Reboot);
    }
}
