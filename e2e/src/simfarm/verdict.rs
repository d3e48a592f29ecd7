//! What became of runs, as the API tells it and as the machines saw it, in a form in which two runs can be compared.

use std::collections::BTreeMap;

use farmgate_vivian::sim::mac;
use serde_json::Value;

use super::SimFarm;

/// The end of an attempt that counts for nothing: its files were being served when the gateway died.
pub const LOST: &str = "interrupted by a restart of the gateway";

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Name of the job's file.
    pub name: String,
    /// `PASS`, ...
    pub status: String,
    /// `test_passed`, ...
    pub cause: String,
    /// Of each boot: number, kind, end.
    pub attempts: Vec<(u64, String, String)>,
    /// Its console, as the API gives it.
    pub console: Vec<u8>,
    /// Why.
    pub summary: String,
}

impl Verdict {
    /// Boots that were repeated at the gateway's expense.
    pub fn lost(&self) -> usize {
        self.attempts.iter().filter(|(_, _, end)| end == LOST).count()
    }

    /// What must be equal to another run of the same job; a difference in words.
    pub fn differs(&self, reference: &Self) -> Option<String> {
        let plain = |verdict: &Self| {
            let kept = verdict.attempts.iter().filter(|(_, _, end)| end != LOST);
            kept.map(|(_, boot, end)| (boot.clone(), end.clone())).collect::<Vec<_>>()
        };
        if (&self.status, &self.cause) != (&reference.status, &reference.cause) {
            let all = |v: &Self| format!("{} {} ({})", v.status, v.cause, v.summary);
            return Some(format!("verdict {} instead of {}", all(self), all(reference)));
        }
        if plain(self) != plain(reference) {
            return Some(format!("attempts {:?} instead of {:?}", self.attempts, reference.attempts));
        }
        if self.lost() == 0 && self.console != reference.console {
            let at = self.console.iter().zip(&reference.console).take_while(|(a, b)| a == b).count();
            return Some(format!(
                "console of {} bytes instead of {}, different from byte {at}: {:?} instead of {:?}",
                self.console.len(),
                reference.console.len(),
                excerpt(&self.console, at),
                excerpt(&reference.console, at)
            ));
        }
        None
    }
}

fn excerpt(bytes: &[u8], at: usize) -> String {
    String::from_utf8_lossy(&bytes[at.saturating_sub(20).min(bytes.len())..(at + 60).min(bytes.len())])
        .into_owned()
}

impl SimFarm {
    /// What a run that is over came to.
    ///
    /// # Panics
    /// It is not over, or cannot be read.
    pub fn verdict(&self, run: u64) -> Verdict {
        let detail = self.get(&format!("job/{run}"));
        let text = |name: &str| detail[name].as_str().unwrap_or_default().to_owned();
        assert_eq!(text("state"), "finished", "{detail}");
        let attempts = detail["attempts"].as_array().cloned().unwrap_or_default();
        let of = |a: &Value| {
            let text = |name: &str| a[name].as_str().unwrap_or_default().to_owned();
            (a["number"].as_u64().unwrap_or_default(), text("boot"), text("end"))
        };
        Verdict {
            name: text("name"),
            status: text("status"),
            cause: text("cause"),
            attempts: attempts.iter().map(of).collect(),
            console: self.try_get(&format!("job/{run}/console")).body,
            summary: text("summary"),
        }
    }

    /// All runs of jobs, the oldest first: number, name of the file, machine, whether it is over.
    pub fn runs(&self) -> Vec<(u64, String, String, bool)> {
        let mut all = Vec::new();
        let mut before = String::new();
        loop {
            let page = self.get(&format!("jobs?limit=500{before}"));
            let page = page["jobs"].as_array().cloned().unwrap_or_default();
            let Some(last) = page.last().and_then(|run| run["id"].as_u64()) else { break };
            before = format!("&before={last}");
            all.extend(page.iter().map(|run| {
                let text = |name: &str| run[name].as_str().unwrap_or_default().to_owned();
                (
                    run["id"].as_u64().unwrap_or_default(),
                    text("name"),
                    text("dut"),
                    text("state") == "finished",
                )
            }));
        }
        all.reverse();
        all
    }

    /// What is wrong between what the runs say and what outlets and machines saw: an outlet that was switched on more or
    /// less often than its runs' boots, one that is on with no run, a boot of another job's files, and bytes of a console that are missing or not a
    /// machine's. Runs are to be given in their order; all must be over. Empty: nothing.
    pub fn compare_with_journal(&self, runs: &[(u32, Verdict)]) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut ons: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
        let mut is_on: BTreeMap<u32, bool> = BTreeMap::new();
        let mut booted: BTreeMap<(u32, u64), String> = BTreeMap::new();
        for line in self.journal() {
            let dut = u32::try_from(line["dut"].as_u64().unwrap_or_default()).unwrap_or_default();
            match line["event"].as_str() {
                Some("on") => {
                    ons.entry(dut).or_default().push(line["boot"].as_u64().unwrap_or_default());
                    is_on.insert(dut, true);
                }
                Some("booted") => {
                    let job = line["job"].as_str().unwrap_or_default().to_owned();
                    booted.insert((dut, line["boot"].as_u64().unwrap_or_default()), job);
                }
                Some("off") => drop(is_on.insert(dut, false)),
                _ => {}
            }
        }
        for (dut, on) in is_on {
            if on {
                wrong.push(format!("outlet {dut} is on without a run"));
            }
        }
        let mut used: BTreeMap<u32, usize> = BTreeMap::new();
        for (dut, verdict) in runs {
            let used = used.entry(*dut).or_default();
            let boots = ons.get(dut).map(Vec::as_slice).unwrap_or_default();
            let own: Vec<u64> = boots.iter().copied().skip(*used).take(verdict.attempts.len()).collect();
            *used += verdict.attempts.len();
            for boot in &own {
                let job = booted.get(&(*dut, *boot)).filter(|job| **job != verdict.name);
                wrong.extend(job.map(|job| {
                    format!("machine {dut}, boot {boot}: it booted {job}, for the run of {}", verdict.name)
                }));
            }
            let printed = own.iter().map(|boot| self.printed(*dut, *boot)).filter(|bytes| named(bytes, *dut));
            let printed = printed.collect::<Vec<_>>().concat();
            if printed != verdict.console {
                let at = printed.iter().zip(&verdict.console).take_while(|(a, b)| a == b).count();
                wrong.push(format!(
                    "machine {dut} printed {} bytes, its run has {}, different from byte {at}: {:?}, run {:?}",
                    printed.len(),
                    verdict.console.len(),
                    excerpt(&printed, at),
                    excerpt(&verdict.console, at)
                ));
            }
        }
        for (dut, boots) in &ons {
            let used = used.get(dut).copied().unwrap_or_default();
            if boots.len() != used {
                wrong.push(format!("outlet {dut} was switched on {} times for {used} boots", boots.len()));
            }
        }
        wrong
    }
}

/// Whether the console said whose it is: else nobody knows where its bytes belong.
fn named(printed: &[u8], dut: u32) -> bool {
    let name = format!("SALAD.machine_id={}", mac(dut));
    printed.windows(name.len()).any(|window| window == name.as_bytes())
}
