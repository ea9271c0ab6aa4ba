//! Question and answer with a backend, for the conversation that precedes service.

use crate::config::{Address, Backend};
use crate::tls::{Stream, connect};
use bytes::{Bytes, BytesMut};
use quorate_wire::resp::{Scanner, Value, encode};
use std::io::ErrorKind;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

/// Time for one question, beyond connecting.
const ANSWER: Duration = Duration::from_secs(5);
/// The largest answer read here; a tail of full entries stays far below.
const MAX_ANSWER: usize = 1 << 30;

/// A connection in conversation. Problems are sentences for an operator.
pub struct Call {
    /// The address that took the connection.
    pub address: Address,
    stream: Stream,
    heard: bool,
    buf: BytesMut,
}

impl Call {
    /// Connects to the first of the backend's addresses that answers, and logs in.
    pub async fn open(backend: &Backend) -> Result<Call, String> {
        let mut problems = Vec::new();
        for address in &backend.addresses {
            match Self::connect(address, backend).await {
                Ok(stream) => {
                    let mut call =
                        Call { address: address.clone(), stream, heard: false, buf: BytesMut::new() };
                    call.login(backend).await?;
                    return Ok(call);
                }
                Err(problem) => problems.push(format!("{address}: {problem}")),
            }
        }
        Err(format!("cannot connect to {}", problems.join("; ")))
    }

    async fn connect(address: &Address, backend: &Backend) -> Result<Stream, String> {
        let limit = backend.connect_timeout;
        let start = Instant::now();
        let dialled = timeout(limit, Self::dial(address)).await;
        let stream =
            dialled.map_err(|_| format!("no answer in {limit:?}"))?.map_err(|error| error.to_string())?;
        let Some(tls) = &backend.tls else { return Ok(Stream::Plain(stream)) };
        let left = limit.saturating_sub(start.elapsed());
        let secured = timeout(left, connect::secure(stream, tls, address)).await;
        // A server that expects plain text waits for the end of the line.
        secured
            .map_err(|_| format!("no TLS handshake in {limit:?}; if the port is a plain one, use redis://"))?
    }

    async fn dial(address: &Address) -> std::io::Result<TcpStream> {
        let stream = TcpStream::connect((address.host.as_str(), address.port)).await?;
        let _ = stream.set_nodelay(true);
        // A host that vanished without a word is noticed even when nothing is being sent.
        let keepalive = socket2::TcpKeepalive::new().with_time(Duration::from_secs(10));
        let _ = socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive);
        Ok(stream)
    }

    async fn login(&mut self, backend: &Backend) -> Result<(), String> {
        let Some(password) = &backend.password else {
            return match &backend.username {
                Some(user) => Err(format!("the user '{user}' is configured without a password")),
                None => Ok(()),
            };
        };
        let password = password.expose().as_bytes();
        let answer = match &backend.username {
            Some(user) => self.ask(&[b"AUTH", user.as_bytes(), password]).await?,
            None => self.ask(&[b"AUTH", password]).await?,
        };
        match answer.error() {
            Some(error) => Err(format!("it refuses the configured user or password: {error}")),
            None => Ok(()),
        }
    }

    /// One command, one answer.
    pub async fn ask(&mut self, command: &[&[u8]]) -> Result<Value, String> {
        let mut answers = self.ask_all(&[command.to_vec()]).await?;
        answers.pop().ok_or_else(|| "it answered nothing".into())
    }

    /// Several commands in one flight.
    pub async fn ask_all(&mut self, commands: &[Vec<&[u8]>]) -> Result<Vec<Value>, String> {
        self.ask_all_within(commands, ANSWER).await
    }

    /// The same, with a time of its own for all of it.
    pub async fn ask_all_within(
        &mut self,
        commands: &[Vec<&[u8]>],
        limit: Duration,
    ) -> Result<Vec<Value>, String> {
        let mut out = BytesMut::new();
        commands.iter().for_each(|command| encode::command(command.iter().copied(), &mut out));
        let conversation = async {
            self.stream.write_all(&out).await.map_err(|error| format!("writing failed: {error}"))?;
            self.stream.flush().await.map_err(|error| format!("writing failed: {error}"))?;
            let mut answers = Vec::with_capacity(commands.len());
            for _ in commands {
                answers.push(self.answer().await?);
            }
            Ok(answers)
        };
        timeout(limit, conversation).await.map_err(|_| format!("it did not answer in {limit:?}"))?
    }

    async fn answer(&mut self) -> Result<Value, String> {
        let mut scanner = Scanner::default();
        loop {
            match scanner.next(&self.buf) {
                Ok(Some(len)) => {
                    let reply: Bytes = self.buf.split_to(len).freeze();
                    return Value::parse(&reply).ok_or_else(|| "its answer cannot be read".into());
                }
                Ok(None) if self.buf.len() > MAX_ANSWER => return Err("its answer is too long".into()),
                Ok(None) => {}
                Err(error) => return Err(format!("it does not speak the Redis protocol: {error}")),
            }
            self.buf.reserve(64 << 10);
            match self.stream.read_buf(&mut self.buf).await {
                Ok(0) => return Err(self.hung_up()),
                Ok(_) => self.heard = true,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Err(self.hung_up()),
                Err(error) => return Err(format!("reading failed: {error}")),
            }
        }
    }

    /// A server whose port takes TLS only says nothing to plain text.
    fn hung_up(&self) -> String {
        match (&self.stream, self.heard) {
            (Stream::Plain(_), false) => {
                "it closed the connection before it said anything; if its port takes TLS only, use rediss://"
                    .into()
            }
            _ => "it closed the connection".into(),
        }
    }

    /// The connection itself, for service. Nothing may be unread on it.
    pub fn into_stream(self) -> Stream {
        self.stream
    }
}
