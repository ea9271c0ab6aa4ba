//! What a `no_std` component needs: an allocator, and a panic that is seen in the proxy's log.

use crate::{Level, format, log};

#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    log(Level::Error, &format!("{info}"));
    core::arch::wasm32::unreachable()
}
