//! Where the memory comes from: mimalloc.
//!
//! A request allocates some ten times, always on the thread that frees it again, and a million cached keys are a dozen small
//! pieces each: it is quick at the one and close with the other. What is free it gives back to the system by the way, when it
//! is used again; who has grown quiet has to say so.

/// What `main` makes the allocator of the process.
pub type Allocator = mimalloc::MiMalloc;

/// Gives back to the system what this thread has freed: what has been free for a moment, or `at_once` all of it. Takes some
/// microseconds for each megabyte that the thread has.
#[expect(
    unsafe_code,
    reason = "the allocator is C; nothing is passed to it but a flag, and nothing comes back"
)]
pub fn give_back(at_once: bool) {
    // SAFETY: it may be called at any time, on any thread, whatever the process' allocator is.
    unsafe { libmimalloc_sys::mi_collect(at_once) }
}
