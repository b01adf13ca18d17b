//! Views that cannot be used are put aside, and made anew from the truth.

use std::io;

use super::copying::next_directory;
use super::files;
use super::open::Home;
use super::truth::Truth;
use super::view::{self, Broken, View, guarded};

/// The view that is there, complete or not; `None` if none is.
pub(super) fn existing(home: &Home, cache_bytes: u64) -> Result<Option<View>, Broken> {
    let views = view::newest(&home.view())?;
    let count = views.len();
    for (index, (_, directory)) in views.into_iter().enumerate() {
        match View::open(&directory, cache_bytes) {
            Ok(view) if view.through.is_none() && index + 1 < count => {
                // It was to replace the one before and was not finished.
                drop(view);
                view::discard(&directory)?;
            }
            Ok(view) => {
                for (_, replaced) in
                    view::newest(&home.view())?.iter().filter(|(_, other)| *other != directory)
                {
                    view::discard(replaced)?;
                }
                return Ok(Some(view));
            }
            Err(broken) => put_aside(home, &directory, &broken)?,
        }
    }
    Ok(None)
}

/// The view as `truth` has it through this cut: the one that is there if it can be used, or a new one. `true`: a new one.
pub(super) fn open_or_rebuild(
    home: &Home,
    cache_bytes: u64,
    truth: &Truth,
    through: u64,
) -> Result<(View, bool), Broken> {
    if let Some(mut view) = existing(home, cache_bytes)? {
        match view.reconcile(truth, through) {
            Ok(differed) => {
                tracing::info!(path = %view.directory().display(), differed, "the view was compared with the journal");
                return Ok((view, false));
            }
            Err(broken) => leave(home, view, &broken),
        }
    }
    Ok((rebuild(home, cache_bytes, truth, through)?, true))
}

/// A new view.
pub(super) fn rebuild(home: &Home, cache_bytes: u64, truth: &Truth, through: u64) -> Result<View, Broken> {
    let mut view = View::open(&next_directory(&home.view())?, cache_bytes)?;
    files::sync_directory(&home.view())?;
    view.reconcile(truth, through)?;
    Ok(view)
}

/// Lets go of a view that does not work. If that is not just for an error of the disk, it is put aside.
pub(super) fn leave(home: &Home, view: View, broken: &Broken) {
    let directory = view.directory().to_owned();
    // sled writes what it has when it is dropped, and may panic at that too.
    let _ = guarded(|| {
        drop(view);
        Ok(())
    });
    if !matches!(broken, Broken::Io(_) | Broken::Sled(sled::Error::Io(_)))
        && let Err(error) = put_aside(home, &directory, broken)
    {
        tracing::error!(path = %directory.display(), %error, "the damaged view cannot be put aside");
    }
}

fn put_aside(home: &Home, directory: &std::path::Path, broken: &Broken) -> io::Result<()> {
    let name = directory.file_name().and_then(|name| name.to_str()).unwrap_or("view");
    let to = files::set_aside(directory, &home.damaged(), &format!("view-{name}"))?;
    tracing::error!(
        path = %directory.display(), kept = %to.display(), error = %broken,
        "the view is damaged; it is put aside and made anew from export and journal"
    );
    Ok(())
}
