//! What a program in the engine says and is told, between the engine's connection and the pipes that the kubelet reads.

use std::os::fd::OwnedFd;
use std::pin::Pin;

use bollard::container::LogOutput;
use bollard::errors::Error;
use futures::{Stream as Items, StreamExt as _};
use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::super::io::Stream;

/// The engine's halves.
pub type Output = Pin<Box<dyn Items<Item = Result<LogOutput, Error>> + Send>>;
/// What the program reads.
pub type Input = Pin<Box<dyn AsyncWrite + Send>>;

/// The kubelet's ends of the pipes.
pub struct Ends {
    pub stdin: Option<OwnedFd>,
    pub stdout: OwnedFd,
    pub stderr: Option<OwnedFd>,
}

/// The other ends.
pub struct Pipes {
    stdin: Option<Stream>,
    stdout: Stream,
    stderr: Option<Stream>,
}

/// Pipes for a program.
pub fn pipes(stdin: bool, tty: bool) -> std::io::Result<(Ends, Pipes)> {
    let pair = || pipe2(OFlag::O_CLOEXEC);
    let (their_stdin, our_stdin) = if stdin {
        let (read, write) = pair()?;
        (Some(Stream::new(read)?), Some(write))
    } else {
        (None, None)
    };
    let (stdout, their_stdout) = pair()?;
    let (stderr, their_stderr) = if tty {
        (None, None)
    } else {
        let (read, write) = pair()?;
        (Some(read), Some(Stream::new(write)?))
    };
    let pipes = Pipes { stdin: their_stdin, stdout: Stream::new(their_stdout)?, stderr: their_stderr };
    Ok((Ends { stdin: our_stdin, stdout, stderr }, pipes))
}

/// Copies both ways until the engine has said everything.
pub async fn copy(mut output: Output, input: Input, pipes: Pipes) {
    let Pipes { stdin, stdout, stderr } = pipes;
    let say = async {
        while let Some(Ok(said)) = output.next().await {
            let to =
                if matches!(said, LogOutput::StdErr { .. }) { stderr.as_ref().unwrap_or(&stdout) } else { &stdout };
            // Who doesn't listen doesn't keep the program from going on.
            let _nobody_listens = to.write_all(&said.into_bytes()).await;
        }
    };
    tokio::select! {
        () = say => {}
        () = feed(stdin, input) => {}
    }
}

/// Never ends: what is said is what ends a program's streams.
async fn feed(stdin: Option<Stream>, mut input: Input) {
    let Some(mut stdin) = stdin else {
        // Dropping it would end the connection for both ways.
        let _open = input;
        return std::future::pending().await;
    };
    let mut buffer = vec![0; 16 * 1024];
    loop {
        match stdin.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(count) => {
                if input.write_all(&buffer[..count]).await.is_err() {
                    break;
                }
            }
        }
    }
    let _gone = input.shutdown().await;
    std::future::pending().await
}
