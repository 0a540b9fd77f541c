//! How many complete introductions a CPU second makes.

use std::time::{Duration, Instant};

use direc_sim::{Scenario, json::Object, run_keeping, trace::Keep};

/// The kernel's clock tick for /proc: 100 a second on every Linux there is (USER_HZ).
const TICK: Duration = Duration::from_millis(10);

/// The CPU time of this process so far, where the system tells without a call that needs `unsafe`.
fn cpu_time() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name in parentheses and may hold anything; user and system time are fields 14
    // and 15.
    let rest = stat.rsplit_once(')')?.1;
    let mut fields = rest.split_whitespace().skip(11);
    let ticks: u32 = fields.next()?.parse::<u32>().ok()? + fields.next()?.parse::<u32>().ok()?;
    Some(TICK * ticks)
}

/// Measures so many introductions. Gives the text and whether all of them went direct.
pub(crate) fn measure(seed: u64, count: u64, json: bool) -> (String, bool) {
    let ms = Duration::from_millis;
    let mut scenario = Scenario::home_pair(ms(20), ms(20), ms(20));
    scenario.linger = Duration::ZERO;
    let (clock, cpu) = (Instant::now(), cpu_time());
    let mut direct = 0;
    let mut packets = 0;
    for n in 0..count {
        let Ok(outcome) = run_keeping(&scenario, seed.wrapping_add(n), Keep::default()) else { continue };
        packets += outcome.trace.counts.sent;
        let went = outcome.call(0).is_some_and(|call| call.direct().is_some() && call.first_echo().is_some());
        direct += u64::from(went && outcome.faults().is_empty());
    }
    let wall = clock.elapsed();
    let (time, how) = match (cpu, cpu_time()) {
        (Some(before), Some(after)) if after > before => (after - before, "cpu"),
        _ => (wall, "wall"),
    };
    let rate = count as f64 / time.as_secs_f64();
    let good = direct == count;
    if json {
        let mut object = Object::new("speed");
        object.number("introductions", count).number("direct", direct).number("packets", packets);
        object.real("seconds", Some(time.as_secs_f64())).text("clock", how).real("per_second", Some(rate));
        return (object.line(), good);
    }
    let clock = match how {
        "cpu" => "CPU seconds (/proc/self/stat)",
        _ => "seconds by the wall clock (no CPU time to be had here)",
    };
    let text = format!(
        "{count} introductions, each in a world of its own: three QUIC handshakes, cookies, punching, first echo\n\
         {direct} of them direct; {packets} packets\n\
         {:.2} {clock}: {rate:.0} introductions a second\n",
        time.as_secs_f64()
    );
    (text, good)
}
