//! Free ports of the loopback interface.

use std::net::{Ipv4Addr, TcpListener};

/// As many different ports as asked for, all free just now. Another process may take one before its user does: whoever
/// uses them has to be ready to start over.
pub(crate) fn free<const N: usize>() -> std::io::Result<[u16; N]> {
    let mut ports = [0; N];
    let mut held = Vec::with_capacity(N);
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}
