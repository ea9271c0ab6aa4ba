//! TLS towards clients and towards backends, with certificates made here.

mod harness;

use harness::{
    Client, Cluster, Finished, Kind, LONG, Load, Proxy, Server, Setup, encode, free_port, lines, quorate,
    wait_until,
};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, date_time_ymd,
};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tempfile::TempDir;

/// Authorities, and certificates of a server, a client and a stranger, in files.
struct Papers {
    dir: TempDir,
    ca: Authority,
}

impl Papers {
    fn new() -> Papers {
        let papers = Papers { dir: tempfile::tempdir().expect("a folder"), ca: authority("the CA") };
        let other = authority("another CA");
        papers.write("ca.pem", &papers.ca.0);
        papers.write("other-ca.pem", &other.0);
        papers.issue("server", &["127.0.0.1", "localhost"]);
        papers.issue("client", &["somebody"]);
        papers.issue_by(&other, "stranger", &["nobody"]);
        papers
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn write(&self, name: &str, text: &str) {
        // In one step, as tools that renew certificates do.
        let new = self.dir.path().join("new");
        fs::write(&new, text).expect("a file");
        fs::rename(new, self.dir.path().join(name)).expect("a file");
    }

    fn issue(&self, name: &str, names: &[&str]) {
        self.issue_by(&self.ca, name, names);
    }

    fn issue_by(&self, ca: &Authority, name: &str, names: &[&str]) {
        self.issue_until(ca, name, names, 2049);
    }

    fn issue_until(&self, ca: &Authority, name: &str, names: &[&str], year: i32) {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.not_after = date_time_ymd(year, 1, 1);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().expect("a key");
        let issuer = Issuer::from_params(&ca.1, &ca.2);
        let certificate = params.signed_by(&key, &issuer).expect("a certificate");
        self.write(&format!("{name}.key"), &key.serialize_pem());
        self.write(&format!("{name}.pem"), &certificate.pem());
    }

    /// `tls` of a listener.
    fn listen(&self, more: &str) -> String {
        let (certificate, key) = (self.path("server.pem"), self.path("server.key"));
        format!("tls = {{ certificate = \"{certificate}\", key = \"{key}\"{more} }}")
    }

    /// What a client trusts and shows.
    fn client(&self, ca: &str, identity: Option<&str>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.path(ca)).expect("a CA")).expect("a CA");
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots);
        Arc::new(match identity {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let chain =
                    vec![CertificateDer::from_pem_file(self.path(&format!("{name}.pem"))).expect("PEM")];
                let key = PrivateKeyDer::from_pem_file(self.path(&format!("{name}.key"))).expect("PEM");
                builder.with_client_auth_cert(chain, key).expect("a pair")
            }
        })
    }

    fn usual(&self) -> Arc<ClientConfig> {
        self.client("ca.pem", None)
    }
}

/// Its certificate in PEM, what it was made from, and its key.
type Authority = (String, CertificateParams, KeyPair);

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new(vec![]).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    let key = KeyPair::generate().expect("a key");
    (params.self_signed(&key).expect("a certificate").pem(), params, key)
}

type Secure = StreamOwned<ClientConnection, TcpStream>;

fn connect(port: u16, config: &Arc<ClientConfig>) -> io::Result<Secure> {
    let socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    socket.set_read_timeout(Some(LONG))?;
    socket.set_write_timeout(Some(LONG))?;
    let name = ServerName::try_from("127.0.0.1").expect("a name");
    let connection = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
    Ok(StreamOwned::new(connection, socket))
}

/// PING over TLS.
fn ping(port: u16, config: &Arc<ClientConfig>) -> io::Result<Secure> {
    let mut stream = connect(port, config)?;
    say(&mut stream, "PING", "+PONG\r\n")?;
    Ok(stream)
}

fn say(stream: &mut Secure, line: &str, expected: &str) -> io::Result<()> {
    stream.write_all(&lines(&[line]))?;
    let mut answer = vec![0; expected.len()];
    stream.read_exact(&mut answer)?;
    assert_eq!(String::from_utf8_lossy(&answer), expected);
    Ok(())
}

/// The certificate that a listener shows.
fn shown(port: u16, config: &Arc<ClientConfig>) -> Vec<u8> {
    let stream = ping(port, config).expect("TLS");
    stream.conn.peer_certificates().expect("certificates")[0].to_vec()
}

/// A port of plain text that leads to one with TLS, for clients that speak none.
struct Tunnel {
    port: u16,
    _runtime: tokio::runtime::Runtime,
}

impl Tunnel {
    fn to(target: u16, config: Arc<ClientConfig>) -> Tunnel {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let listener = runtime.block_on(tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
        let listener = listener.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        runtime.spawn(async move {
            while let Ok((mut plain, _)) = listener.accept().await {
                let connector = tokio_rustls::TlsConnector::from(config.clone());
                tokio::spawn(async move {
                    let socket = tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await?;
                    let name = ServerName::try_from("127.0.0.1").expect("a name");
                    let mut secure = connector.connect(name, socket).await?;
                    tokio::io::copy_bidirectional(&mut plain, &mut secure).await
                });
            }
        });
        Tunnel { port, _runtime: runtime }
    }

    fn client(&self) -> Client {
        Client::connect(self.port).expect("the tunnel accepts")
    }
}

fn secure_cluster(papers: &Papers, more: &str) -> Cluster {
    Cluster::start(Setup::new(Kind::Redis, 1).listen(&papers.listen(more)))
}

fn wait_log(proxy: &Proxy, text: &str) {
    wait_until(&format!("the log says '{text}'"), LONG, || proxy.log().contains(text));
}

#[test]
fn clients_speak_tls_and_plain_text_is_told_so() {
    let papers = Papers::new();
    let plain = free_port();
    let mut setup = Setup::new(Kind::Redis, 1).listen(&papers.listen(""));
    setup.rest = format!("[listen.plain]\naddress = \"127.0.0.1:{plain}\"\ngroup = \"g\"\n");
    let cluster = Cluster::start(setup);
    let port = cluster.proxy.port;
    let mut neighbour = ping(port, &papers.usual()).expect("TLS");
    say(&mut neighbour, "SET k v", "+OK\r\n").expect("TLS");

    let mut mistaken = Client::connect(port).expect("a connection");
    let told = mistaken.line("PING");
    assert!(told.is_error() && told.string().contains("TLS only"), "{told:?}");
    assert!(mistaken.is_closed());
    wait_log(&cluster.proxy, "it speaks plain text to a TLS port");

    assert!(ping(plain, &papers.usual()).is_err());
    wait_log(&cluster.proxy, "closed a client that speaks TLS to a plain port");

    assert!(ping(port, &papers.client("other-ca.pem", None)).is_err(), "a client that trusts another CA");
    say(&mut neighbour, "GET k", "$1\r\nv\r\n").expect("the neighbour is not disturbed");
    assert_eq!(Client::connect(plain).expect("plain").line("GET k").string(), "v");
    let (_, metrics) = cluster.proxy.page("/metrics");
    for line in [
        "quorate_tls_handshakes_total{listener=\"main\",outcome=\"plain\"} 1",
        "quorate_tls_handshakes_total{listener=\"main\",outcome=\"failed\"} 1",
        "quorate_tls_certificate_expiry_seconds{listener=\"main\"} 2493072000",
    ] {
        assert!(metrics.contains(line), "{line} in\n{metrics}");
    }
}

#[test]
fn who_sends_without_end_does_not_keep_the_thread_for_itself() {
    let papers = Papers::new();
    let mut setup = Setup::new(Kind::Redis, 1).listen(&papers.listen(""));
    setup.rest = "[proxy]\nworkers = 1\n".into();
    let cluster = Cluster::start(setup);
    let port = cluster.proxy.port;
    let mut neighbour = ping(port, &papers.usual()).expect("TLS");
    let stop = Arc::new(AtomicBool::new(false));
    let flood = {
        let (stop, mut stream) = (stop.clone(), ping(port, &papers.usual()).expect("TLS"));
        // Lines that say nothing get no answer, so nothing holds up who sends them.
        let nothing = b"\r\n".repeat(1 << 18);
        std::thread::spawn(
            move || while !stop.load(Ordering::Relaxed) && stream.write_all(&nothing).is_ok() {},
        )
    };
    for round in 0..50 {
        say(&mut neighbour, "PING", "+PONG\r\n").unwrap_or_else(|e| panic!("round {round}: {e}"));
    }
    stop.store(true, Ordering::Relaxed);
    flood.join().expect("it ran");
}

#[test]
fn certificates_of_clients_are_asked_for() {
    let papers = Papers::new();
    let ca = format!(", client-ca = \"{}\"", papers.path("ca.pem"));
    let required = secure_cluster(&papers, &ca);
    let port = required.proxy.port;
    let of = |identity| papers.client("ca.pem", identity);
    assert!(ping(port, &of(Some("client"))).is_ok());
    assert!(ping(port, &of(None)).is_err());
    assert!(ping(port, &of(Some("stranger"))).is_err());

    let optional = secure_cluster(&papers, &format!("{ca}, client-certificates = \"optional\""));
    let port = optional.proxy.port;
    assert!(ping(port, &of(Some("client"))).is_ok());
    assert!(ping(port, &of(None)).is_ok());
    assert!(ping(port, &of(Some("stranger"))).is_err());
}

#[test]
fn a_new_certificate_is_used_without_a_restart_and_a_broken_one_is_not() {
    let papers = Papers::new();
    let cluster = secure_cluster(&papers, "");
    let (proxy, config) = (&cluster.proxy, papers.usual());
    let mut before = ping(proxy.port, &config).expect("TLS");
    let first = shown(proxy.port, &config);

    papers.issue("server", &["127.0.0.1"]);
    wait_until("the new certificate is shown", LONG, || shown(proxy.port, &config) != first);
    let second = shown(proxy.port, &config);
    say(&mut before, "PING", "+PONG\r\n").expect("the old connection goes on");

    papers.write("server.pem", "no certificate");
    wait_log(proxy, "new TLS files are not used");
    assert_eq!(shown(proxy.port, &config), second);
    let (_, metrics) = proxy.page("/metrics");
    let failed = "quorate_tls_reloads_total{listener=\"main\",outcome=\"failed\"} ";
    assert!(metrics.contains(failed) && !metrics.contains(&format!("{failed}0")), "{metrics}");

    papers.issue("server", &["127.0.0.1"]);
    wait_until("the third certificate is shown", LONG, || shown(proxy.port, &config) != second);
    // A signal has them read as well, changed or not.
    let taken = || proxy.log().matches("new TLS files are in use").count();
    wait_until("both changes are told", LONG, || taken() >= 2);
    let known = taken();
    harness::signal(proxy.pid(), "HUP");
    wait_until("they are read once more", LONG, || taken() > known);
}

#[test]
fn those_who_say_nothing_keep_nobody_out() {
    let papers = Papers::new();
    let cluster = secure_cluster(&papers, "");
    let port = cluster.proxy.port;
    let mut silent: Vec<TcpStream> =
        (0..300).map(|_| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("a connection")).collect();
    ping(port, &papers.usual()).expect("TLS beside them");
    let crowded = "quorate_tls_handshakes_total{listener=\"main\",outcome=\"crowded\"} ";
    assert!(!cluster.proxy.page("/metrics").1.contains(&format!("{crowded}0")));
    // One that begins and does not go on.
    silent[299].write_all(&[22, 3, 1]).expect("it is open");
    for i in [0, 299] {
        let stream = &mut silent[i];
        stream.set_read_timeout(Some(LONG)).expect("a limit");
        let closed = stream.read(&mut [0]);
        assert!(
            closed.as_ref().is_ok_and(|n| *n == 0)
                || closed.is_err_and(|e| e.kind() != io::ErrorKind::WouldBlock)
        );
    }
    wait_until("their places are free", LONG, || {
        cluster.proxy.metric("quorate_tls_handshakes_total") >= 301.0
    });
}

#[test]
fn garbage_inside_a_handshake_harms_nobody() {
    let papers = Papers::new();
    let cluster = secure_cluster(&papers, "");
    let port = cluster.proxy.port;
    let mut neighbour = ping(port, &papers.usual()).expect("TLS");
    let mut random = harness::Random::new(7);
    for _ in 0..200 {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("a connection");
        let mut bytes = vec![22, 3, random.below(5) as u8];
        bytes.extend((0..random.below(400)).map(|_| random.below(256) as u8));
        let _ = stream.write_all(&bytes);
    }
    // After the handshake, too.
    for _ in 0..20 {
        let mut stream = ping(port, &papers.usual()).expect("TLS");
        let bytes: Vec<u8> = (0..random.below(400)).map(|_| random.below(256) as u8).collect();
        let _ = stream.sock.write_all(&bytes);
    }
    say(&mut neighbour, "PING", "+PONG\r\n").expect("the neighbour is not disturbed");
}

#[test]
fn large_values_and_slow_readers_go_through_tls() {
    let papers = Papers::new();
    let cluster = secure_cluster(&papers, "");
    let tunnel = Tunnel::to(cluster.proxy.port, papers.usual());
    let mut client = tunnel.client();
    let value: Vec<u8> = (0..100 << 20).map(|i: u32| (i ^ i >> 11) as u8).collect();
    assert_eq!(client.call(&[&b"SET"[..], b"big", &value]).string(), "OK");
    assert!(client.line("GET big").text == value, "the value comes back as it was");

    // Reads nothing until all is asked for; the proxy must neither lose nor mix anything.
    let mut slow = connect(cluster.proxy.port, &papers.usual()).expect("TLS");
    slow.write_all(&encode(&[&b"SET"[..], b"mid", &value[..1 << 20]])).expect("written");
    for _ in 0..40 {
        slow.write_all(&lines(&["GET mid", "PING"])).expect("written");
    }
    let mut head = [0; 5];
    slow.read_exact(&mut head).expect("OK");
    let one = [b"$1048576\r\n", &value[..1 << 20], b"\r\n+PONG\r\n"].concat();
    let mut got = vec![0; one.len()];
    for _ in 0..40 {
        slow.read_exact(&mut got).expect("an answer");
        assert!(got == one);
    }

    // One that never reads costs the others nothing, and may go at any time.
    let mut deaf = connect(cluster.proxy.port, &papers.usual()).expect("TLS");
    deaf.write_all(&lines(&["GET big", "GET big"])).expect("written");
    assert_eq!(client.line("PING").string(), "PONG");
    drop(deaf);
    assert_eq!(client.line("STRLEN big").number(), 100 << 20);
}

#[test]
fn a_pipeline_through_tls_is_answered_in_order() {
    let papers = Papers::new();
    let cluster = secure_cluster(&papers, "");
    let mut stream = ping(cluster.proxy.port, &papers.usual()).expect("TLS");
    let mut sent = Vec::new();
    let mut expected = Vec::new();
    for i in 0..5000 {
        sent.extend(lines(&[&format!("SET k {i}"), "GET k"]));
        expected.extend(format!("+OK\r\n${}\r\n{i}\r\n", i.to_string().len()).into_bytes());
    }
    stream.write_all(&sent).expect("written");
    let mut got = vec![0; expected.len()];
    stream.read_exact(&mut got).expect("answers");
    assert!(got == expected);
    say(&mut stream, "QUIT", "+OK\r\n").expect("TLS");
    assert_eq!(stream.read(&mut [0]).expect("a proper end, not a cut"), 0);
}

/// Servers with a plain port for the tests and a TLS port for the proxy.
fn tls_servers(papers: &Papers, count: usize, more: &[&str]) -> (Vec<Server>, Vec<u16>) {
    let (certificate, key, ca) =
        (papers.path("server.pem"), papers.path("server.key"), papers.path("ca.pem"));
    let ports: Vec<u16> = (0..count).map(|_| free_port()).collect();
    let servers = ports.iter().map(|port| {
        let port = port.to_string();
        let mut args = vec!["--tls-port", &port, "--tls-cert-file", &certificate, "--tls-key-file", &key];
        args.extend(["--tls-ca-cert-file", &ca]);
        args.extend(more);
        Server::start_with(Kind::Redis, &args)
    });
    (servers.collect(), ports)
}

fn backend_setup(papers: &Papers, tls: &str) -> Setup {
    let ca = papers.path("ca.pem");
    Setup {
        backend_tls: Some(format!("tls = {{ ca = \"{ca}\"{tls} }}")),
        ..Setup::new(Kind::Redis, 3).listen(&papers.listen(""))
    }
}

fn identity(papers: &Papers) -> String {
    format!(", certificate = \"{}\", key = \"{}\"", papers.path("client.pem"), papers.path("client.key"))
}

#[test]
fn backends_over_tls_catch_up_after_a_kill() {
    let papers = Papers::new();
    // Mutual: the servers ask for the proxy's certificate.
    let (mut servers, ports) = tls_servers(&papers, 3, &["--tls-auth-clients", "yes"]);
    let mut proxy = Proxy::start(&backend_setup(&papers, &identity(&papers)), &ports);
    proxy.wait_ready();
    proxy.wait_in_sync();
    let tunnel = Tunnel::to(proxy.port, papers.usual());
    let load = Load::start(tunnel.port, 0, 4);
    load.wait_acked(300);
    for server in &mut servers {
        server.kill();
        load.wait_acked(200);
        server.run();
        proxy.wait_in_sync();
    }
    load.wait_acked(200);
    let record = load.stop();
    proxy.wait_in_sync();
    harness::assert_equal(&servers);
    record.check(&mut tunnel.client());
    let mut client = tunnel.client();
    let value = vec![b'x'; 30 << 20];
    assert_eq!(client.call(&[&b"SET"[..], b"big", &value]).string(), "OK");
    assert!(client.line("GET big").text == value);
}

#[test]
fn a_backend_that_cannot_be_trusted_is_not_used() {
    let papers = Papers::new();
    let (_servers, ports) = tls_servers(&papers, 1, &["--tls-auth-clients", "yes"]);
    let ca = papers.path("ca.pem");
    let other = papers.path("other-ca.pem");
    let own = identity(&papers);
    for (tls, expected) in [
        (format!("ca = \"{other}\"{own}"), "not signed by a CA that is trusted"),
        (
            format!("ca = \"{ca}\", server-name = \"elsewhere\"{own}"),
            "its certificate is not for 'elsewhere'",
        ),
        (format!("ca = \"{ca}\""), "CertificateRequired"),
        (format!("ca = \"{ca}\", server-name = \"localhost\"{own}"), ""),
    ] {
        let setup = Setup { backend_tls: Some(format!("tls = {{ {tls} }}")), ..Setup::new(Kind::Redis, 1) };
        let mut proxy = Proxy::start(&setup, &ports);
        match expected {
            "" => proxy.wait_ready(),
            _ => {
                wait_log(&proxy, expected);
                let checked = Finished::of(quorate().args(["check", "--probe"]).arg(proxy.config()));
                assert!(checked.err.contains(expected), "{}", checked.err);
            }
        }
        proxy.kill();
    }
}

#[test]
fn plain_and_tls_ports_of_backends_are_told_apart() {
    let papers = Papers::new();
    let (servers, ports) = tls_servers(&papers, 1, &[]);
    let secure = Setup { replicas: 1, ..backend_setup(&papers, "") };
    let wrong = Proxy::start(&secure, &harness::ports(&servers));
    wait_log(&wrong, "if the port is a plain one");
    let plain = Proxy::start(&Setup::new(Kind::Redis, 1), &ports);
    wait_log(&plain, "use rediss://");
}

#[test]
fn a_stale_replica_is_copied_over_tls_or_told_why_not() {
    let papers = Papers::new();
    let (mut servers, ports) = tls_servers(&papers, 3, &["--tls-auth-clients", "no"]);
    let lines = "log-memory = \"1MiB\"\nhints = false\nreseed-by = \"replicaof\"";
    let mut proxy = Proxy::start(&backend_setup(&papers, "").group(lines), &ports);
    proxy.wait_ready();
    proxy.wait_in_sync();
    let tunnel = Tunnel::to(proxy.port, papers.usual());
    let load = Load::start(tunnel.port, 0, 2);
    load.wait_acked(200);
    servers[2].wipe();
    for i in 0..8 {
        let key = format!("fill:{i}");
        assert_eq!(tunnel.client().call(&[&b"SET"[..], key.as_bytes(), &vec![b'x'; 1 << 20]]).string(), "OK");
    }
    servers[2].run();
    wait_until("the operator is told what to set", LONG, || {
        proxy.page("/status").1.contains("tls-replication yes")
    });
    servers[2].client().ok("CONFIG SET tls-replication yes");
    proxy.wait_in_sync();
    load.wait_acked(100);
    let record = load.stop();
    record.check(&mut tunnel.client());
    harness::assert_equal(&servers);
}

#[test]
fn check_tells_of_every_file_with_its_place() {
    let papers = Papers::new();
    papers.write("broken.pem", "no PEM at all");
    papers.write(
        "encrypted.key",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nhunter2x\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    papers.issue_until(&papers.ca, "old", &["127.0.0.1"], 2020);
    let config = papers.dir.path().join("quorate.toml");
    let check = |listen: &str, backend: &str| {
        let text = format!(
            "[listen.main]\naddress = \"127.0.0.1:7000\"\ngroup = \"g\"\n{listen}\n[backend.r1]\n{backend}\n\
             [group.g]\nreplicas = [\"r1\"]\n"
        );
        fs::write(&config, text).expect("a file");
        let found = Finished::of(quorate().arg("check").arg(&config));
        assert!(!found.err.contains("hunter2"), "{}", found.err);
        (found.code, found.err)
    };
    let plain = "url = \"redis://127.0.0.1:7001\"";
    let tls = |inner: &str| format!("tls = {{ {inner} }}");
    for (listen, expected) in [
        ("certificate = \"none.pem\", key = \"server.key\"", "quorate.toml:4:23"),
        ("certificate = \"none.pem\", key = \"server.key\"", "there is no such file"),
        ("certificate = \"broken.pem\", key = \"server.key\"", "holds no certificate in PEM"),
        ("certificate = \"server.pem\", key = \"none.key\"", "quorate.toml:4:43"),
        ("certificate = \"server.pem\", key = \"client.key\"", "does not belong to the certificate"),
        ("certificate = \"server.pem\", key = \"encrypted.key\"", "needs a passphrase"),
        (
            "certificate = \"server.pem\", key = \"-----BEGIN PRIVATE KEY----- hunter2\"",
            "there is no such file",
        ),
        ("certificate = \"server.pem\", key = \"server.pem\"", "holds no private key in PEM"),
        ("certificate = \"server.pem\"", "has no key"),
        (
            "certificate = \"server.pem\", key = \"server.key\", client-ca = \"broken.pem\"",
            "the CA cannot be used",
        ),
        ("certificate = \"server.pem\", key = \"server.key\", client-certificates = \"optional\"", "C122"),
        (
            "certificate = \"server.pem\", key = \"server.key\", client-ca = \"ca.pem\", client-certificates = \"yes\"",
            "C008",
        ),
    ] {
        let (code, err) = check(&tls(listen), plain);
        assert!(err.contains(expected) && code != Some(0), "{listen}: {err}");
    }
    let (code, err) = check(&tls("certificate = \"old.pem\", key = \"old.key\""), plain);
    assert!(code == Some(0) && err.contains("warning[C209]") && err.contains("has expired"), "{err}");
    let secure = "url = \"rediss://127.0.0.1:7001\"\n";
    for (backend, expected) in [
        (format!("{plain}\n{}", tls("ca = \"ca.pem\"")), "C121"),
        (format!("{secure}{}", tls("ca = \"broken.pem\"")), "quorate.toml:7:14"),
        (format!("{secure}{}", tls("ca = \"ca.pem\", certificate = \"client.pem\"")), "key is missing"),
        (
            format!("{secure}{}", tls("ca = \"ca.pem\", certificate = \"client.pem\", key = \"server.key\"")),
            "C023",
        ),
        (format!("{secure}{}", tls("ca = \"ca.pem\", server-name = \"a b\"")), "C013"),
    ] {
        let (code, err) = check("", &backend);
        assert!(err.contains(expected) && code != Some(0), "{backend}: {err}");
    }
    let (code, err) = check("", &format!("{secure}{}", tls("ca = \"ca.pem\"")));
    assert_eq!(code, Some(0), "{err}");
}
