//! Which router packets to the internet leave by.

use std::net::Ipv4Addr;

/// The router of the default route with the lowest metric, by IPv4.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn router() -> Option<Ipv4Addr> {
    match std::fs::read_to_string("/proc/net/route") {
        Ok(table) => default_route(&table),
        Err(error) => {
            log::debug!("no table of routes: {error}");
            None
        }
    }
}

/// Not known how to find it here.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn router() -> Option<Ipv4Addr> {
    None
}

/// Lines of interface, destination, gateway, flags, reference count, use, metric, mask, …; addresses in hexadecimal, as
/// they lie in memory (proc(5)).
#[cfg(any(target_os = "linux", target_os = "android", test))]
fn default_route(table: &str) -> Option<Ipv4Addr> {
    /// The route is up, and leads to a gateway.
    const UP_GATEWAY: u32 = 0x3;
    let routes = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let &[_, destination, gateway, flags, _, _, metric, mask, ..] = fields.as_slice() else { return None };
        let hex = |field| u32::from_str_radix(field, 16).ok();
        let through = hex(flags)? & UP_GATEWAY == UP_GATEWAY;
        let default = hex(destination)? == 0 && hex(mask)? == 0;
        let gateway = Ipv4Addr::from(hex(gateway)?.to_ne_bytes());
        (through && default).then_some((metric.parse::<u32>().ok()?, gateway))
    });
    routes.min().map(|(_, gateway)| gateway)
}

#[cfg(all(test, target_endian = "little"))]
mod tests {
    use super::*;

    const HEAD: &str = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";

    #[test]
    fn the_default_route_with_the_lowest_metric_names_the_router() {
        let table = format!(
            "{HEAD}wlan0\t00000000\t0102A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n\
             eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
             eth0\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
        );
        assert_eq!(default_route(&table), Some(Ipv4Addr::new(192, 168, 1, 1)));
    }

    #[test]
    fn without_a_way_through_a_router_there_is_none() {
        assert_eq!(default_route(HEAD), None);
        let down = format!("{HEAD}eth0\t00000000\t0101A8C0\t0002\t0\t0\t100\t00000000\t0\t0\t0\nnonsense\n\n");
        assert_eq!(default_route(&down), None);
        let linked = format!("{HEAD}ppp0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0\n");
        assert_eq!(default_route(&linked), None);
    }
}
