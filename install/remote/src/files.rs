//! The files that a kernel asks for, at its own side: its questions come from its standard output, and it hears of them by its
//! life line.

use crate::frame::Frame;
use crate::kernel::Kernel;
use crate::link;
use crate::transfer::{Move, Transfers};
use lightcell_events::files::{Ask, News};

/// The transfers of a kernel.
pub struct Files {
    to: link::Sender,
    transfers: Transfers,
}

impl Files {
    /// None yet.
    pub fn new(to: &link::Sender) -> Files {
        Files {
            to: to.clone(),
            transfers: Transfers::new(to.clone()),
        }
    }

    /// A line of the kernel's.
    pub fn asked(&mut self, line: &[u8], kernel: &mut Kernel) {
        // Whatever else came by that way is no question.
        match serde_json::from_slice(line) {
            Ok(Ask::Transfer {
                id,
                upload,
                local,
                remote,
            }) => {
                let ask = Frame::Move(Move::Ask {
                    id,
                    upload,
                    path: local,
                    name: remote.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                });
                let begun = if upload {
                    let begun = self.transfers.take(id, &remote);
                    if begun.is_ok() {
                        self.to.send(ask);
                    }
                    begun
                } else {
                    self.to.send(ask);
                    self.transfers.send(id, &remote)
                };
                if let Err(error) = begun {
                    let why = format!("{error:#}");
                    self.transfers.cancel(id, &why);
                    tell(kernel, &News::Failed { id, why });
                }
            }
            Ok(Ask::Cancel { id }) => self.transfers.cancel(id, "it was stopped"),
            Err(_) => {}
        }
    }

    /// A word of the launcher's.
    pub fn said(&mut self, word: Move, kernel: &mut Kernel) {
        if word == Move::Gone {
            for id in self.transfers.forget_all() {
                let why = "the front end has gone amid the transfer".to_owned();
                tell(kernel, &News::Failed { id, why });
            }
            return;
        };
        if let Some(news) = self.transfers.said(word) {
            tell(kernel, &news);
        }
    }

    /// A piece from the launcher.
    pub fn piece(&mut self, id: u32, bytes: &[u8], kernel: &mut Kernel) {
        if let Some(news) = self.transfers.piece(id, bytes) {
            tell(kernel, &news);
        }
    }
}

fn tell(kernel: &mut Kernel, news: &News) {
    // Strings and numbers only: nothing that could fail.
    kernel.tell(&serde_json::to_string(news).unwrap_or_default());
}
