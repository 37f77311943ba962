//! `ringbridge-step RECEIVERS PACKETS`: prints how many packets were forwarded and how many allocations that took.
//! `tools/instructions` runs it under callgrind.

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    let numbers: Vec<u32> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let [receivers, packets] = numbers[..] else {
        eprintln!("usage: ringbridge-step RECEIVERS PACKETS");
        return std::process::ExitCode::from(2);
    };
    let steps = ringbridge_step::run(receivers, packets as usize);
    println!("{} {}", steps.forwarded, steps.allocations);
    std::process::ExitCode::SUCCESS
}
