//! How the C library keeps memory, which libtorch asks it for.
//!
//! A forward pass allocates and frees the same few megabytes again and again. glibc hands freed memory
//! at the top of its heap back to the kernel, and every page of it faults when it is asked for again:
//! 8,000 faults and a third of the time of a batched forward on a small policy.

/// Keeps freed memory for the next pass.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code)] // no safe crate sets these two numbers
pub fn keep() {
    // SAFETY: mallopt takes two integers, and is called before any other thread exists.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20); // the greatest that glibc takes
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
    }
}

/// Other C libraries keep to their own ways.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn keep() {}
