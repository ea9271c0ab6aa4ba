//! One socket option that no safe wrapper has: how many bytes must be there before a reader is woken.
//!
//! Redis answers a long transaction in pieces, one for each of its own reads. Being woken for
//! pieces that end nothing is most of what reading replies costs.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd};

/// Wakes the reader of `socket` when `bytes` are there, or when the connection ends. A failure
/// changes nothing but the number of times it is woken.
pub fn set_low_water_mark(socket: BorrowedFd<'_>, bytes: usize) {
    let value = libc::c_int::try_from(bytes.max(1)).unwrap_or(libc::c_int::MAX);
    // SAFETY: the descriptor is open for as long as it is borrowed, and the option's value is an
    // int that outlives the call, as setsockopt(2) asks for SO_RCVLOWAT.
    let _ = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVLOWAT,
            std::ptr::from_ref(&value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
}
