//! The simulator's model store behind a real socket: what `quorate demo` uses where no server is installed.

use quorate_sim::store::{Fate, Store};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Starts a store on a port of the system's choice. It ends with the runtime.
pub async fn start(seed: u64) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let store = Arc::new(Mutex::new(Store::with_history(seed, now_ms(), 0)));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(store.clone(), stream));
        }
    });
    Ok(address)
}

async fn serve(store: Arc<Mutex<Store>>, mut stream: TcpStream) {
    let lock = || store.lock().unwrap_or_else(PoisonError::into_inner);
    let session = lock().connect();
    let mut buf = vec![0; 64 << 10];
    while let Ok(read @ 1..) = stream.read(&mut buf).await {
        let mut out = Vec::new();
        let fate = {
            let mut store = lock();
            match store.is_connected(session) {
                true => store.feed(session, &buf[..read], now_ms(), &mut out),
                false => Fate::Close,
            }
        };
        if stream.write_all(&out).await.is_err() || fate == Fate::Close {
            break;
        }
    }
    lock().disconnect(session);
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}
