//! `ringbridge-step RECEIVERS PACKETS`, `ringbridge-step ROOMS PARTICIPANTS PACKETS` (of each), or
//! `ringbridge-step relays RELAYS PACKETS`, `ringbridge-step repeats RECEIVERS PACKETS`: prints how many packets were forwarded,
//! how many were sent again, and how many allocations that took. `tools/instructions` runs it under callgrind.

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    let numbers: Vec<u32> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let first = std::env::args().nth(1).unwrap_or_default();
    let steps = match numbers[..] {
        [receivers, packets] if first == "repeats" => ringbridge_step::run_repeats(receivers, packets as usize),
        [count, packets] if first == "relays" => ringbridge_step::run_relays(count, packets as usize),
        [receivers, packets] => ringbridge_step::run(receivers, packets as usize),
        [rooms, participants, packets] => ringbridge_step::run_rooms(rooms, participants, packets as usize),
        _ => {
            let usage =
                "RECEIVERS PACKETS | ROOMS PARTICIPANTS PACKETS | relays RELAYS PACKETS | repeats RECEIVERS PACKETS";
            eprintln!("usage: ringbridge-step {usage}");
            return std::process::ExitCode::from(2);
        }
    };
    println!("{} {} {}", steps.forwarded, steps.repeated, steps.allocations);
    std::process::ExitCode::SUCCESS
}
