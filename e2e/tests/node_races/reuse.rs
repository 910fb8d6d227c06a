//! One address, two records.

use std::fs;
use std::net::IpAddr;

use anyhow::{Result, ensure};
use e2e::metadata::{self, IPV4, IPV6, LIST, Seen};
use e2e::world::{ROLE, World};

use crate::records;

const OTHER_ROLE: &str = "example-rolecall-cluster-pod-role-other";

/// The new pod has the old one's addresses while the old one's record is still there, and when that goes at last.
pub(crate) async fn an_address_is_reused_before_the_old_record_goes(world: &mut World) -> Result<()> {
    let old = world.pod("old", ROLE).await?;
    ensure!(metadata::get(&old.place(), LIST).await? == Seen::Answer(200, ROLE.into()));
    let addresses = old.addresses().to_vec();
    let (path, text) = records::of(&old, &records::results(world)?)?;
    old.delete().await?;
    fs::write(&path, text)?;
    let reserved = world.lab.node("node-a")?.cni_directory().join("networks/aws-cni");
    for (range, address) in addresses.iter().enumerate() {
        // host-local gives out the address after the last one.
        fs::write(reserved.join(format!("last_reserved_ip.{range}")), before(*address).to_string())?;
    }
    let new = world.pod("new", OTHER_ROLE).await?;
    ensure!(new.addresses() == addresses, "{:?}, not {addresses:?}", new.addresses());
    let own = Seen::Answer(200, OTHER_ROLE.into());
    for when in ["while the old record is there", "after it has gone"] {
        for base in [IPV4, IPV6] {
            let seen = metadata::get_at(&new.place(), base, LIST).await?;
            ensure!(seen == own, "{when}, {base}: {seen:?}");
            let others = metadata::get_at(&new.place(), base, &format!("{LIST}{ROLE}")).await?;
            ensure!(others == Seen::Answer(404, "rolecall: another_role".into()), "{when}, {base}: {others:?}");
        }
        let _ = fs::remove_file(&path);
    }
    Ok(())
}

fn before(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => IpAddr::V4((u32::from(v4) - 1).into()),
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) - 1).into()),
    }
}
