//! What every driver must do, whatever device is behind it: functions over a [`Driver`] and a fake device that
//! misbehaves on request.
//!
//! A driver's own tests implement [`Misbehave`] for their fake and call [`all`]; the cases are public too, for a fake
//! that needs one of them under other conditions. The suite owns what is common (bounds, typed errors, no command to
//! a neighbour, recovery); what only one protocol knows is left to the driver's own tests.
#![allow(dead_code)] // not every driver's tests use every case by itself

use std::time::Duration;

use async_trait::async_trait;
use farmgate_pdu::{Driver, DriverError, PduHandle, PduOptions, PowerError};
use farmgate_protocol::{PortId, pdu::PortState};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

/// The bound that the PDU's task puts on every call.
pub const CALL_WITHIN: Duration = Duration::from_secs(5);
/// A bound for what should take moments, about ten times as long as it may take on a busy machine.
const SETTLED_WITHIN: Duration = Duration::from_secs(30);
/// How long a device lies about a state.
const LIE: Duration = Duration::from_secs(3);

/// What a fake device does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Each answer takes so long.
    Slow(Duration),
    /// It takes requests, and never answers.
    Silent,
    /// After each command it shows the old state for so long; the relay itself moves at once.
    LiesFor(Duration),
    /// Every second request (or connection) gets lost.
    LosesEverySecond,
    /// It is switched off: nothing listens at its address. Its relays keep their state.
    Gone,
}

/// A fake device under the control of a test.
#[async_trait]
pub trait Misbehave: Send {
    /// What it is called when a case fails.
    fn name(&self) -> String {
        "the device".to_owned()
    }

    /// A new driver for the device, with the right credentials.
    fn driver(&self) -> Box<dyn Driver>;

    /// A driver that gives a wrong password or community. None: the protocol knows no credentials.
    fn with_wrong_credentials(&self) -> Option<Box<dyn Driver>> {
        None
    }

    /// A driver whose credentials are good for reading only. None: the protocol knows no such thing.
    fn with_reading_only(&self) -> Option<Box<dyn Driver>> {
        None
    }

    /// The fewest and the most outlets that such a device can have.
    fn outlets(&self) -> (usize, usize) {
        (0, 64)
    }

    /// The id of the `n`-th outlet, counted from 0.
    fn id(&self, n: usize) -> PortId {
        PortId::from(n as u32 + 1)
    }

    /// The label that the driver must show for the `n`-th outlet when the device was told to call it `given`.
    fn label(&self, _n: usize, given: &str) -> String {
        given.to_owned()
    }

    /// An id that the device does not have, spelt as its ids are.
    fn unknown_id(&self) -> PortId {
        self.id(self.outlets().1 + 900)
    }

    /// Makes the device anew, at the same address: these outlets, all OFF, no fault.
    async fn outfit(&mut self, labels: &[String]);

    /// Does this wrong from now on (and nothing else). False: such a device cannot do that, the case does not apply.
    async fn fault(&mut self, fault: Fault) -> bool;

    /// Whether the relay of the `n`-th outlet is really closed.
    async fn is_on(&mut self, n: usize) -> bool;

    /// Somebody presses the button of the `n`-th outlet.
    async fn press(&mut self, n: usize, on: bool);

    /// How many commands (not questions) the device has carried out since `outfit`.
    async fn commands(&mut self) -> usize;
}

/// Every case, one after the other, with one fake.
pub async fn all(fake: &mut dyn Misbehave) {
    lists_what_the_device_has(fake).await;
    switches_one_outlet_and_no_other(fake).await;
    may_be_told_the_same_twice(fake).await;
    sees_what_somebody_else_did(fake).await;
    refuses_an_outlet_that_is_not_there(fake).await;
    copes_with_a_slow_device(fake).await;
    works_again_after_a_call_was_dropped(fake).await;
    tells_of_a_silent_device_and_recovers(fake).await;
    finds_a_restarted_device_again(fake).await;
    repeats_what_gets_lost(fake).await;
    says_what_is_wrong_with_the_credentials(fake).await;
    switches_nothing_when_it_may_only_read(fake).await;
    a_lie_is_not_taken_for_done(fake).await;
}

/// Labels in several scripts, for `n` outlets.
pub fn labels(n: usize) -> Vec<String> {
    let names = ["Steckdose ü", "прибор", "机器", "plain", "naïve café"];
    (0..n).map(|i| format!("{} {}", names[i % names.len()], i + 1)).collect()
}

/// An outfit of about `n` outlets, as far as such a device can have them.
async fn outfit(fake: &mut dyn Misbehave, n: usize) -> usize {
    let (fewest, most) = fake.outlets();
    let n = n.clamp(fewest, most);
    fake.outfit(&labels(n)).await;
    n
}

/// A call, bounded as the PDU's task bounds it.
pub async fn bounded<T>(call: impl Future<Output = Result<T, DriverError>>) -> Result<T, DriverError> {
    timeout(CALL_WITHIN, call).await.unwrap_or(Err(DriverError::Timeout(CALL_WITHIN)))
}

/// A call that may fail twice, as the PDU's task allows it.
async fn patiently<T>(
    driver: &mut dyn Driver,
    mut call: impl AsyncFnMut(&mut dyn Driver) -> Result<T, DriverError>,
) -> T {
    let mut last = None;
    for _ in 0..3 {
        match bounded(call(driver)).await {
            Ok(done) => return done,
            Err(error) => last = Some(error),
        }
    }
    panic!("three failures in a row: {last:?}");
}

/// Switches, and waits until the driver reads the new state.
async fn switch(driver: &mut dyn Driver, id: &PortId, on: bool) {
    patiently(driver, async |driver| driver.write(id, on).await).await;
    let wanted = if on { PortState::On } else { PortState::Off };
    let start = Instant::now();
    loop {
        let seen = patiently(driver, async |driver| driver.read(id).await).await;
        if seen == wanted {
            return;
        }
        assert!(start.elapsed() < SETTLED_WITHIN, "{id} never became {wanted}: {seen}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Shown when the test fails: which device, which case.
fn case(fake: &dyn Misbehave, case: &str) {
    println!("conformance of {}: {case}", fake.name());
}

/// Outlets come with stable ids and their own labels, also none, one or very many of them, in one bounded call.
pub async fn lists_what_the_device_has(fake: &mut dyn Misbehave) {
    for wanted in [0, 1, 2, 64] {
        case(fake, &format!("lists {wanted} outlets"));
        let n = outfit(fake, wanted).await;
        let mut driver = fake.driver();
        let infos = bounded(driver.ports()).await.unwrap();
        let shown: Vec<_> = infos.into_iter().map(|info| (info.id, info.label)).collect();
        let expected: Vec<_> =
            labels(n).iter().enumerate().map(|(i, label)| (fake.id(i), fake.label(i, label))).collect();
        assert_eq!(shown, expected);
        for i in [0, n / 2, n.saturating_sub(1)] {
            if i < n {
                assert_eq!(bounded(driver.read(&fake.id(i))).await.unwrap(), PortState::Off, "outlet {i}");
            }
        }
        assert_eq!(fake.commands().await, 0, "listing and reading command nothing");
    }
}

/// ON and OFF reach the outlet that was meant, and only that one.
pub async fn switches_one_outlet_and_no_other(fake: &mut dyn Misbehave) {
    case(fake, "switches one outlet and no other");
    let n = outfit(fake, 12).await;
    let mut driver = fake.driver();
    // 1 and 10, 0 and 11: ids of which one begins like the other.
    for target in [0, 1, 9, 10, 11].into_iter().filter(|i| *i < n) {
        switch(&mut *driver, &fake.id(target), true).await;
        for i in 0..n {
            assert_eq!(fake.is_on(i).await, i == target, "outlet {i} while {target} is on");
        }
        switch(&mut *driver, &fake.id(target), false).await;
        assert!(!fake.is_on(target).await);
    }
}

/// The same command twice is no error, and leaves the same state.
pub async fn may_be_told_the_same_twice(fake: &mut dyn Misbehave) {
    case(fake, "may be told the same twice");
    outfit(fake, 2).await;
    let mut driver = fake.driver();
    for on in [false, true, true, false, false] {
        switch(&mut *driver, &fake.id(0), on).await;
        assert_eq!(fake.is_on(0).await, on);
    }
}

/// The state is the device's, not a memory of what was commanded.
pub async fn sees_what_somebody_else_did(fake: &mut dyn Misbehave) {
    case(fake, "sees what somebody else did");
    outfit(fake, 2).await;
    let mut driver = fake.driver();
    let id = fake.id(0);
    switch(&mut *driver, &id, true).await;
    fake.press(0, false).await;
    assert_eq!(bounded(driver.read(&id)).await.unwrap(), PortState::Off);
    fake.press(0, true).await;
    assert_eq!(bounded(driver.read(&id)).await.unwrap(), PortState::On);
}

/// An id that the device does not have is an error of its own, and commands nothing.
pub async fn refuses_an_outlet_that_is_not_there(fake: &mut dyn Misbehave) {
    case(fake, "refuses an outlet that is not there");
    let n = outfit(fake, 2).await;
    let mut driver = fake.driver();
    let unknown = ["0", "nonsense", "1.2.3.4.5.6", "-1", "01", "99999999999999999999"];
    let unknown = unknown.map(|id| PortId::new(id).unwrap()).into_iter().chain([fake.unknown_id()]);
    for id in unknown.filter(|id| (0..n).all(|i| fake.id(i) != *id)).collect::<Vec<_>>() {
        let read = bounded(driver.read(&id)).await;
        assert!(matches!(read, Err(DriverError::UnknownPort(_))), "reading {id}: {read:?}");
        let written = bounded(driver.write(&id, true)).await;
        assert!(matches!(written, Err(DriverError::UnknownPort(_))), "switching {id}: {written:?}");
    }
    assert_eq!(fake.commands().await, 0);
    assert_eq!(bounded(driver.read(&fake.id(0))).await.unwrap(), PortState::Off, "and it still works");
}

/// A device that thinks for a while is no dead device.
pub async fn copes_with_a_slow_device(fake: &mut dyn Misbehave) {
    case(fake, "copes with a slow device");
    let n = outfit(fake, 4).await;
    if !fake.fault(Fault::Slow(Duration::from_millis(400))).await {
        return;
    }
    let mut driver = fake.driver();
    assert_eq!(bounded(driver.ports()).await.unwrap().len(), n);
    switch(&mut *driver, &fake.id(0), true).await;
    assert!(fake.is_on(0).await);
}

/// A call that the task gave up on leaves nothing behind that spoils the next one.
pub async fn works_again_after_a_call_was_dropped(fake: &mut dyn Misbehave) {
    case(fake, "works again after a call was dropped");
    let n = outfit(fake, 2).await;
    let mut driver = fake.driver();
    let id = fake.id(n - 1);
    switch(&mut *driver, &id, true).await;
    if !fake.fault(Fault::Slow(Duration::from_millis(300))).await {
        return;
    }
    for _ in 0..5 {
        let _ = timeout(Duration::from_millis(20), driver.read(&fake.id(0))).await;
        let _ = timeout(Duration::from_millis(20), driver.ports()).await;
    }
    assert!(fake.fault(Fault::None).await);
    // An answer to a question that was dropped would be OFF here.
    assert_eq!(patiently(&mut *driver, async |driver| driver.read(&id).await).await, PortState::On);
}

/// No answer is an error in bounded time, never a state; and no reason to need a new driver afterwards.
pub async fn tells_of_a_silent_device_and_recovers(fake: &mut dyn Misbehave) {
    case(fake, "tells of a silent device and recovers");
    let n = outfit(fake, 2).await;
    let [mut reader, mut writer, mut lister] = [fake.driver(), fake.driver(), fake.driver()];
    let id = fake.id(0);
    switch(&mut *reader, &id, true).await;
    if !fake.fault(Fault::Silent).await {
        return;
    }
    let (read, written, listed) =
        tokio::join!(bounded(reader.read(&id)), bounded(writer.write(&id, true)), bounded(lister.ports()));
    assert_unreachable(read);
    assert_unreachable(written);
    assert_unreachable(listed);
    assert!(fake.fault(Fault::None).await);
    for driver in [&mut reader, &mut writer, &mut lister] {
        assert_eq!(patiently(&mut **driver, async |driver| driver.ports().await).await.len(), n);
        assert_eq!(patiently(&mut **driver, async |driver| driver.read(&id).await).await, PortState::On);
    }
}

/// A device that was switched off and on again is used again, with the state that it has then.
pub async fn finds_a_restarted_device_again(fake: &mut dyn Misbehave) {
    case(fake, "finds a restarted device again");
    let n = outfit(fake, 2).await;
    let mut driver = fake.driver();
    let id = fake.id(0);
    switch(&mut *driver, &id, true).await;
    if !fake.fault(Fault::Gone).await {
        return;
    }
    assert_unreachable(bounded(driver.read(&id)).await);
    assert!(fake.fault(Fault::None).await);
    assert_eq!(patiently(&mut *driver, async |driver| driver.ports().await).await.len(), n);
    assert_eq!(patiently(&mut *driver, async |driver| driver.read(&id).await).await, PortState::On);
    switch(&mut *driver, &id, false).await;
    assert!(!fake.is_on(0).await);
}

/// Half of all requests getting lost costs time, not correctness.
pub async fn repeats_what_gets_lost(fake: &mut dyn Misbehave) {
    case(fake, "repeats what gets lost");
    let n = outfit(fake, 4).await;
    if !fake.fault(Fault::LosesEverySecond).await {
        return;
    }
    let mut driver = fake.driver();
    assert_eq!(patiently(&mut *driver, async |driver| driver.ports().await).await.len(), n);
    for on in [true, false] {
        switch(&mut *driver, &fake.id(0), on).await;
        assert_eq!(fake.is_on(0).await, on);
    }
}

/// Wrong credentials are told as what they are (or as silence, with the credentials named among the remedies).
pub async fn says_what_is_wrong_with_the_credentials(fake: &mut dyn Misbehave) {
    case(fake, "says what is wrong with the credentials");
    outfit(fake, 2).await;
    let drivers =
        [fake.with_wrong_credentials(), fake.with_wrong_credentials(), fake.with_wrong_credentials()];
    let [Some(mut reader), Some(mut writer), Some(mut lister)] = drivers else { return };
    let id = fake.id(0);
    let (read, written, listed) =
        tokio::join!(bounded(reader.read(&id)), bounded(writer.write(&id, true)), bounded(lister.ports()));
    for error in [read.map(drop).unwrap_err(), written.unwrap_err(), listed.map(drop).unwrap_err()] {
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            text.push_str(&format!(": {error}"));
            cause = error.source();
        }
        match error {
            DriverError::Authentication(_) => {}
            DriverError::Unreachable { .. } => {
                let named = ["community", "password", "credentials", "user"].iter().any(|w| text.contains(w));
                assert!(named, "silence that does not say that credentials may be wrong: {text}");
            }
            _ => panic!("not told as a matter of credentials: {text}"),
        }
    }
    assert_eq!(fake.commands().await, 0);
}

/// Who may only read can read, and gets an error for each command.
pub async fn switches_nothing_when_it_may_only_read(fake: &mut dyn Misbehave) {
    case(fake, "switches nothing when it may only read");
    let n = outfit(fake, 2).await;
    let Some(mut driver) = fake.with_reading_only() else { return };
    let id = fake.id(0);
    assert_eq!(bounded(driver.ports()).await.unwrap().len(), n);
    let refused = bounded(driver.write(&id, true)).await.unwrap_err();
    assert!(
        matches!(refused, DriverError::Refused(_) | DriverError::Authentication(_)),
        "not told as a refusal: {refused}"
    );
    assert_eq!(bounded(driver.read(&id)).await.unwrap(), PortState::Off);
    assert!(!fake.is_on(0).await);
    assert_eq!(fake.commands().await, 0);
}

/// Through the PDU's task: `on` and `off` are done when the device shows it, not when it accepted the command.
pub async fn a_lie_is_not_taken_for_done(fake: &mut dyn Misbehave) {
    case(fake, "a lie is not taken for done");
    outfit(fake, 2).await;
    if !fake.fault(Fault::LiesFor(LIE)).await {
        return;
    }
    let stop = CancellationToken::new();
    let options = PduOptions { min_off: Some(Duration::ZERO), ..PduOptions::default() };
    let pdu = PduHandle::spawn("LIAR", fake.driver(), options, stop.clone());
    let id = fake.id(0);
    let start = Instant::now();
    on(&pdu, &id).await.unwrap();
    assert!(fake.is_on(0).await);
    assert!(start.elapsed() >= LIE - Duration::from_millis(500), "done after {:?}", start.elapsed());
    assert_eq!(pdu.snapshot().borrow().pdu.ports[id.as_str()].state, PortState::On);
    timeout(SETTLED_WITHIN, pdu.off(&id)).await.unwrap().unwrap();
    assert!(!fake.is_on(0).await);
    stop.cancel();
}

async fn on(pdu: &PduHandle, id: &PortId) -> Result<(), PowerError> {
    timeout(SETTLED_WITHIN, pdu.on(id, Duration::ZERO)).await.unwrap()
}

fn assert_unreachable<T: std::fmt::Debug>(result: Result<T, DriverError>) {
    assert!(
        matches!(result, Err(DriverError::Unreachable { .. } | DriverError::Timeout(_))),
        "expected no answer: {result:?}"
    );
}
