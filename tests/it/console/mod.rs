//! The console in a real browser: what the guide promises its readers, and what must not happen.

mod accessibility;
mod doors;
mod guide;
mod key_page;
mod list;
mod pages;
mod pictures;
mod scene;
mod secrets;
mod walls;
