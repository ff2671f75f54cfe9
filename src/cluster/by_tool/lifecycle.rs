//! Making, finding and removing a cluster, whatever tool it is by.
//!
//! A cluster that answers under its remembered identity is used without asking the tool or Docker at all. Otherwise, under the place's
//! lock, by what is found: nothing is made; what bears our mark and isn't whole (whoever made it was killed, or it was stopped) is
//! removed and made again; anything else of our name is refused.

use std::collections::BTreeMap;
use std::path::Path;

use kube::config::Kubeconfig;

use super::maker::{By, Site, Standing, Told};
use super::place::{Place, Taken};
use super::{MAKERS, images};
use crate::cluster::ClusterError;
use crate::cluster::reached::identified;
use crate::cluster::tenancy::record::Lodged;
use crate::images::docker::Images;
use crate::session::launch;
use crate::session::state::StateDirectory;

/// A cluster that answers.
pub struct Found {
    /// How to reach it.
    pub kubeconfig: Kubeconfig,
    /// By that.
    pub client: kube::Client,
    /// The UID of its `kube-system` namespace.
    pub identity: String,
}

/// A cluster that was removed because nobody was left to do so.
#[derive(Debug, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Gone {
    /// The tool that made it.
    pub tool: &'static str,
    /// Its name.
    pub cluster: String,
    /// Why it could not be, if so.
    pub left: Option<String>,
}

impl std::fmt::Display for Gone {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { tool, cluster, left } = self;
        match left {
            None => write!(formatter, "removed {tool} cluster {cluster}: nobody uses it"),
            Some(why) => write!(formatter, "{tool} cluster {cluster} is still there: {why}"),
        }
    }
}

/// The cluster, if it is whole and answers as the one that it was. One request.
pub async fn known(place: &Place, namespace: &str) -> Option<Found> {
    let expected = place.identity()?;
    let kubeconfig = place.kubeconfig(namespace).ok()??;
    let (client, identity) = identified(&kubeconfig, namespace, None).await.ok()?;
    (identity == expected).then_some(Found { kubeconfig, client, identity })
}

/// The cluster, made if there is none.
pub async fn found_or_made(
    place: &Place,
    taken: &Taken,
    namespace: &str,
    images: &Images,
    variables: &BTreeMap<String, String>,
    told: Told<'_>,
) -> Result<Found, ClusterError> {
    let (by, tool) = (place.by(), place.by().tool(place, variables));
    tool.check().await.map_err(tool.failed(&format!("asking {} for its version", by.name())))?;
    let site = Site { place, taken, images, tool: &tool };
    match by.standing(&site).await? {
        Standing::Theirs => return Err(theirs(place)),
        Standing::Whole => {}
        Standing::Broken => {
            told(&format!("removing {} cluster {}, which was left unfinished or stopped", by.name(), place.name));
            by.delete(&site).await?;
            forget_sessions(place);
            by.make(&site, told).await?;
        }
        Standing::Nothing => {
            forget_sessions(place);
            by.make(&site, told).await?;
        }
    }
    let kubeconfig = place.kubeconfig(namespace)?.ok_or_else(|| {
        let wrote = format!("{} wrote no {}", by.name(), place.kubeconfig_path().display());
        ClusterError::unavailable(format!("making a {} cluster", by.name()), wrote)
    })?;
    let (client, identity) = identified(&kubeconfig, namespace, None).await?;
    place.identified(taken, &identity)?;
    Ok(Found { kubeconfig, client, identity })
}

fn theirs(place: &Place) -> ClusterError {
    ClusterError::Unsupported {
        what: format!(
            "there is a {} cluster {} that was not made by envctl with the state in {}; nothing in it was touched",
            place.by().name(),
            place.name,
            place.state().display()
        ),
        cure: format!("if nobody needs it: {}", place.by().unneeded(&place.name)),
    }
}

/// What dead sessions left on the cluster is gone with it, by whatever way it went: nothing is to be looked for any more.
fn forget_sessions(place: &Place) {
    let Some(identity) = place.identity() else { return };
    let state = StateDirectory::at(place.state().to_owned());
    for directory in launch::left(&state).unwrap_or_default() {
        let gone = Lodged::read(directory.path()).ok().flatten().is_some_and(|lodged| lodged.cluster == identity);
        // One that cannot be forgotten is told by the next `gc`.
        if gone && let Err(error) = launch::forget_left(&state, &directory) {
            tracing::warn!(%error, "the files of a session whose cluster is gone could not be removed");
        }
    }
}

/// Removes the cluster if it is ours, finished or not, and forgets the place.
pub async fn remove(
    place: &Place,
    taken: &Taken,
    images: &Images,
    variables: &BTreeMap<String, String>,
) -> Result<bool, ClusterError> {
    // Nothing was ever begun: then nothing is asked, and nothing need be installed.
    if place.mark().is_none() {
        return place.forget(taken).map(|()| false);
    }
    let tool = place.by().tool(place, variables);
    let site = Site { place, taken, images, tool: &tool };
    let removed = match place.by().standing(&site).await? {
        Standing::Nothing => false,
        Standing::Theirs => return Err(theirs(place)),
        Standing::Whole | Standing::Broken => {
            place.by().delete(&site).await?;
            true
        }
    };
    forget_sessions(place);
    place.forget(taken)?;
    Ok(removed)
}

/// Removes the cluster that all sessions of a state directory share, or only says that it would (`dry_run`). `None`: there is none.
///
/// # Errors
/// When it isn't ours, or the tool or the engine refuses.
pub async fn remove_shared(
    by: By,
    state: &Path,
    variables: &BTreeMap<String, String>,
    dry_run: bool,
) -> Result<Option<Gone>, ClusterError> {
    let place = Place::shared(by, state);
    if !place.exists() {
        return Ok(None);
    }
    let gone = self::gone(&place);
    if dry_run {
        return Ok(Some(gone));
    }
    let taken = place.take(false).await?;
    let images = images(&place, variables);
    Ok(remove(&place, &taken, &images, variables).await?.then_some(gone))
}

/// Forgets shared clusters that are no longer there, as after a restart of an engine that lost them, with what dead sessions left on them:
/// there is nothing to look for. A cluster whose engine doesn't answer is remembered.
pub async fn forget_vanished(state: &Path, variables: &BTreeMap<String, String>) {
    for place in MAKERS.iter().map(|&by| Place::shared(by, state)).filter(Place::exists) {
        // Somebody is making or removing it.
        let Some(taken) = place.try_take() else { continue };
        let images = images(&place, variables);
        if known(&place, "default").await.is_some() || images.engine().await.is_err() {
            continue;
        }
        let tool = place.by().tool(&place, variables);
        let site = Site { place: &place, taken: &taken, images: &images, tool: &tool };
        if matches!(place.by().standing(&site).await, Ok(Standing::Nothing)) {
            forget_sessions(&place);
            if let Err(error) = place.forget(&taken) {
                tracing::warn!(%error, cluster = place.name, "a cluster that is gone could not be forgotten");
            }
        }
    }
}

/// Removes clusters of single sessions whose agent is gone (nobody holds their lock), or only says which (`dry_run`).
pub async fn sweep(state: &Path, variables: &BTreeMap<String, String>, dry_run: bool) -> Vec<Gone> {
    let mut swept = Vec::new();
    for place in MAKERS.iter().flat_map(|&by| Place::all(by, state)).filter(Place::is_fresh) {
        let Some(taken) = place.try_take() else { continue };
        let mut gone = self::gone(&place);
        if !dry_run {
            let images = images(&place, variables);
            match remove(&place, &taken, &images, variables).await {
                Ok(true) => {}
                Ok(false) => continue,
                Err(error) => gone.left = Some(error.to_string()),
            }
        }
        swept.push(gone);
    }
    swept
}

fn gone(place: &Place) -> Gone {
    Gone { tool: place.by().name(), cluster: place.name.clone(), left: None }
}
