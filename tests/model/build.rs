//! Takes the door of the feed's room, without the rooms behind it that need a store: the follower is checked alone.

use std::path::Path;
use std::{env, fs};

fn main() {
    let root = env::var("CARGO_MANIFEST_DIR").expect("cargo says where the package is");
    let room = Path::new(&root).join("../../src/events");
    let door = room.join("mod.rs");
    println!("cargo::rerun-if-changed={}", door.display());
    let text = fs::read_to_string(&door).expect("src/events/mod.rs can be read");
    let mut kept = String::new();
    for line in text.lines() {
        match line {
            "pub mod follower;" | "pub mod trail;" => {
                let name = line.trim_start_matches("pub mod ").trim_end_matches(';');
                let path = room.join(name).with_extension("rs");
                kept.push_str(&format!("#[path = {path:?}]\n{line}\n"));
            }
            "pub mod local;" | "pub mod redis;" | "#[cfg(test)]" | "mod recorder;" => {}
            line if line.starts_with("//!") => {}
            line => {
                kept.push_str(line);
                kept.push('\n');
            }
        }
    }
    let out = env::var("OUT_DIR").expect("cargo says where to write");
    fs::write(Path::new(&out).join("events.rs"), kept).expect("OUT_DIR can be written");
}
