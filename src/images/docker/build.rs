//! Builds by the engine, and pulls with the user's credentials.
//!
//! What an image was built from last is remembered on disk, beside its id: the context's files, the recipe, and the images that it is `FROM`.
//! While that is the same and the engine has that image, nothing is sent and nothing built, however large the context. (Not in a label of
//! the image: a file that was only touched would make another image of the same content.) Which of the engine's builders builds is `builder`'s.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};

use bollard::auth::DockerCredentials;
use bollard::query_parameters::{BuildImageOptionsBuilder, CreateImageOptionsBuilder};
use futures::{StreamExt as _, TryStreamExt as _};
use sha2::{Digest as _, Sha256};

use super::builder::{self, Builder, Order, Outcome};
use super::context::Context;
use super::{DockerError, Engine, config};
use crate::images::ImageError;
use crate::images::build::{BuildError, Builds, display};
use crate::plan;

/// Where it is remembered what images were built from: a file an image.
pub struct Memory(PathBuf);

impl Memory {
    /// In a directory, which need not exist.
    pub fn new(directory: PathBuf) -> Self {
        Self(directory)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(hex(&Sha256::digest(name.as_bytes())))
    }

    /// The right to build what will have this name, until it is dropped: sessions that built it side by side would each find the other's image under
    /// the name afterwards, and take it for a difference.
    async fn turn(&self, name: &str) -> Result<File, DockerError> {
        let path = self.path(name).with_extension("lock");
        let what = format!("taking {}", path.display());
        let waiting = tokio::task::spawn_blocking(move || {
            std::fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
            let file = File::options().write(true).create(true).truncate(false).open(path)?;
            file.lock()?;
            Ok(file)
        });
        let taken = waiting.await.unwrap_or_else(|panic| Err(std::io::Error::other(panic)));
        taken.map_err(|source| DockerError::File { what, source })
    }

    fn has(&self, name: &str, source: &str, id: &str) -> bool {
        std::fs::read_to_string(self.path(name)).is_ok_and(|known| known == format!("{source} {id}"))
    }

    /// What cannot be remembered is built once more.
    fn remember(&self, name: &str, source: &str, id: &str) {
        let written =
            std::fs::create_dir_all(&self.0).and_then(|()| std::fs::write(self.path(name), format!("{source} {id}")));
        if let Err(error) = written {
            tracing::warn!(%error, name, "what an image was built from could not be remembered");
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// The images that a recipe is `FROM`, without its own stages; `None` if it says so in a way that only the engine understands.
/// `ARG`s before the first `FROM` are what it may name, with these values or their defaults. What only BuildKit reads counts whoever builds.
fn bases(recipe: &str, arguments: &BTreeMap<String, String>) -> Option<Vec<String>> {
    let mut stages = vec!["scratch".to_owned()];
    let mut bases: Vec<String> = Vec::new();
    let mut values = BTreeMap::new();
    for line in recipe.lines() {
        let mut words = line.split_whitespace();
        let instruction = words.next().unwrap_or_default().to_ascii_uppercase();
        if instruction.starts_with('#') {
            // Docker's own reader of recipes gives the same image of the same recipe; another may need anything.
            if syntax(line)
                .is_some_and(|reader| !reader.trim_start_matches("docker.io/").starts_with("docker/dockerfile"))
            {
                return None;
            }
        } else if instruction == "FROM" {
            let mut words = words.filter(|word| !word.starts_with("--"));
            let base = words.next()?;
            let base = match base.strip_prefix('$') {
                None => base,
                Some(name) => values
                    .get(name.strip_prefix('{').and_then(|name| name.strip_suffix('}')).unwrap_or(name))
                    .copied()?,
            };
            if base.contains('$') {
                return None;
            }
            if !stages.iter().any(|stage| stage == base) {
                bases.push(base.to_owned());
            }
            let stage = words.next().filter(|word| word.eq_ignore_ascii_case("as")).and(words.next());
            stages.extend(stage.map(str::to_owned));
        } else if instruction == "ARG" && stages.len() == 1 && bases.is_empty() {
            let argument = words.next()?;
            let (name, default) =
                argument.split_once('=').map_or((argument, None), |(name, value)| (name, Some(value)));
            values.extend(arguments.get(name).map(String::as_str).or(default).map(|value| (name, value)));
        } else if instruction == "ADD" && (line.contains("://") || line.contains('@')) {
            // A download, or `git@host:repository`.
            return None;
        } else {
            for from in line.split_whitespace().filter_map(source_of) {
                // A stage by its name or number, or an image.
                let known = stages.iter().any(|stage| stage == from) || from.parse::<usize>().is_ok();
                if from.contains('$') {
                    return None;
                }
                bases.extend((!known).then(|| from.to_owned()));
            }
        }
    }
    Some(bases)
}

/// What `# syntax=IMAGE` says.
fn syntax(comment: &str) -> Option<&str> {
    let (name, value) = comment.trim_start().strip_prefix('#')?.split_once('=')?;
    name.trim().eq_ignore_ascii_case("syntax").then_some(value.trim())
}

/// What an option of `COPY` or `RUN` copies or mounts from: `--from=X`, `--mount=type=bind,from=X`.
fn source_of(word: &str) -> Option<&str> {
    word.strip_prefix("--from=")
        .or_else(|| word.strip_prefix("--mount=")?.split(',').find_map(|part| part.strip_prefix("from=")))
}

impl Engine {
    /// Builds an image and returns its id. Its steps are told as they come.
    ///
    /// # Errors
    /// [`ImageError::Build`] with the last lines when the build fails; else when the engine refuses.
    pub async fn build(
        &self,
        name: &str,
        recipe: &plan::DockerImage,
        builds: &Builds,
        variables: &BTreeMap<String, String>,
        memory: &Memory,
    ) -> Result<String, ImageError> {
        let failed = |source: DockerError| ImageError::Load { image: name.to_owned(), source: Box::new(source) };
        let mut words = vec!["docker".to_owned(), "build".to_owned(), "-t".to_owned(), name.to_owned()];
        if let Some(dockerfile) = &recipe.dockerfile {
            words.extend(["-f".to_owned(), dockerfile.display().to_string()]);
        }
        words.extend(recipe.target.iter().flat_map(|target| ["--target".to_owned(), target.clone()]));
        words.push(recipe.context.display().to_string());
        let command = display(&words);
        let build_error = |how: String, output| BuildError {
            command: command.clone(),
            directory: recipe.context.clone(),
            how,
            code: None,
            output,
            hint: None,
        };
        let context = Context::new(&recipe.context, recipe.dockerfile.as_deref())
            .map_err(|(path, error)| build_error(format!("cannot use {}: {error}", path.display()), Vec::new()))?;
        let _turn = memory.turn(name).await.map_err(failed)?;
        let (context, source) = self.source(context, recipe).await.map_err(failed)?;
        let known = self.image_id(name).await.map_err(failed)?;
        if let Some((source, id)) = source.as_ref().zip(known.as_ref())
            && memory.has(name, source, id)
        {
            return Ok(id.clone());
        }
        let credentials = config::all_credentials(variables).await.map_err(failed)?;
        let arguments: HashMap<String, String> = recipe.args.clone().into_iter().collect();
        let mut options = BuildImageOptionsBuilder::new()
            .t(name)
            .dockerfile(&context.dockerfile)
            .buildargs(&arguments)
            .rm(true)
            .forcerm(true);
        if let Some(target) = &recipe.target {
            options = options.target(target);
        }
        builds
            .by_engine(&command, name, async {
                let builder = Builder::chosen(self, variables).await.map_err(failed)?;
                let (archive, writing) = context.archive();
                let order =
                    Order { name: name.to_owned(), options: options.build(), credentials, archive: archive.boxed() };
                let told = |step: &str| builds.told(name, step);
                let outcome = builder.build(order, told).await.map_err(failed)?;
                // It ended with the stream: its error is what the engine complained of, or the engine's refusal is the cause.
                if let Ok(Err(error)) = writing.await
                    && error.kind() != std::io::ErrorKind::BrokenPipe
                {
                    let how = format!("cannot read its context: {error}");
                    return Err(build_error(how, Vec::new()).into());
                }
                if let Outcome::Failed { message, lines } = outcome {
                    let error = build_error(format!("failed: {}", message.trim()), lines);
                    return Err(BuildError { hint: builder::hint(&message), ..error }.into());
                }
                let id = self.image_id(name).await.map_err(failed)?;
                let id = id.ok_or_else(|| build_error("made no image".to_owned(), Vec::new()))?;
                if let Some(source) = &source {
                    memory.remember(name, source, &id);
                }
                Ok(id)
            })
            .await
    }

    /// A digest of what an image would be built from; `None` if only the engine can tell.
    async fn source(
        &self,
        context: Context,
        recipe: &plan::DockerImage,
    ) -> Result<(Context, Option<String>), DockerError> {
        let what = || format!("reading build context {}", recipe.context.display());
        // A large context takes a while to look at.
        let looking = tokio::task::spawn_blocking(move || {
            let files = context.digest();
            (context, files)
        });
        let looked =
            looking.await.map_err(|panic| DockerError::File { what: what(), source: std::io::Error::other(panic) })?;
        let (context, files) = looked;
        let files = files.map_err(|source| DockerError::File { what: what(), source })?;
        let mut hash = Sha256::new();
        hash.update(files);
        // Debug's text is no interface, but the same for the same program, which is all that is asked of it.
        hash.update(format!("{recipe:?}"));
        let Some(bases) = bases(&context.recipe, &recipe.args) else { return Ok((context, None)) };
        for base in bases {
            let Some(id) = self.image_id(&base).await? else { return Ok((context, None)) };
            hash.update(id);
        }
        Ok((context, Some(hex(&hash.finalize()))))
    }

    /// Pulls an image, and returns its id.
    ///
    /// # Errors
    /// When the registry refuses.
    pub async fn pull(
        &self,
        name: &str,
        credentials: Option<DockerCredentials>,
        builds: &Builds,
    ) -> Result<Option<String>, DockerError> {
        let how = if credentials.is_some() { " with your Docker credentials" } else { "" };
        let refused = || DockerError::request(format!("pulling image {name}{how}"));
        // Without a tag the engine would pull all of them.
        let tagged = name.contains('@') || name.rsplit('/').next().is_some_and(|last| last.contains(':'));
        let whole = if tagged { name.to_owned() } else { format!("{name}:latest") };
        let options = CreateImageOptionsBuilder::new().from_image(&whole).build();
        builds.told(name, "pulling");
        self.docker
            .create_image(Some(options), None, credentials)
            .try_for_each(|_progress| std::future::ready(Ok(())))
            .await
            .map_err(refused())?;
        self.image_id(name).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_recipe_is_from_is_told_or_left_to_the_engine() {
        let given = [("BASE".to_owned(), "debian:12".to_owned())].into();
        let bases = |recipe| bases(recipe, &given).map(|bases| bases.join(" "));
        let told = |text: &str| Some(text.to_owned());
        assert_eq!(bases("FROM scratch\nCOPY a /a\n"), told(""));
        let stages = "FROM --platform=linux/amd64 rust:1 AS build\nRUN x\nFROM debian:12\nCOPY --from=build /a /a\nCOPY --from=0 /b /b\n\
                      COPY --from=tools:1 /c /c\n";
        assert_eq!(bases(stages), told("rust:1 debian:12 tools:1"));
        assert_eq!(bases("ARG BASE=x\nARG OTHER=y\nFROM ${BASE} AS one\nFROM one\nFROM $OTHER\n"), told("debian:12 y"));
        // Unset, of a later place, or put together of parts.
        for unknown in ["ARG NONE\nFROM $NONE\n", "FROM a\nARG BASE=x\nFROM $BASE\n", "ARG BASE=x\nFROM debian:$BASE\n"]
        {
            assert_eq!(bases(unknown), None, "{unknown}");
        }
        assert_eq!(bases("FROM scratch\nADD https://a.example/x /x\n"), None);
        assert_eq!(bases("FROM scratch\nADD git@a.example:x.git /x\n"), None);
        let mounts = "# syntax=docker/dockerfile:1\nFROM a AS one\n# COPY --from=said:1 /a /a\nRUN --mount=type=cache,target=/c \\\n  \
                      --mount=type=bind,from=one,target=/x --mount=from=tools:1,target=/t make\nCOPY \\\n--from=more:1 /a /a\n";
        assert_eq!(bases(mounts), told("a tools:1 more:1"));
        assert_eq!(bases("# syntax = team/reader:1\nFROM a\n"), None);
    }
}
