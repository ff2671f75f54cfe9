//! The text that both sides' compressors know beforehand: SPDY protocol, draft 3, section 2.6.10.1 (`spdy/dictionary.go`).

/// Each with its length before it.
const WORDS: &str = concat!(
    "options|head|post|put|delete|trace|accept|accept-charset|accept-encoding|accept-language|accept-ranges|age|",
    "allow|authorization|cache-control|connection|content-base|content-encoding|content-language|content-length|",
    "content-location|content-md5|content-range|content-type|date|etag|expect|expires|from|host|if-match|",
    "if-modified-since|if-none-match|if-range|if-unmodified-since|last-modified|location|max-forwards|pragma|",
    "proxy-authenticate|proxy-authorization|range|referer|retry-after|server|te|trailer|transfer-encoding|upgrade|",
    "user-agent|vary|via|warning|www-authenticate|method|get|status|200 OK|version|HTTP/1.1|url|public|set-cookie|",
    "keep-alive|origin",
);

/// What follows them.
const TEXT: &str = concat!(
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 ",
    "Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 ",
    "Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb ",
    "Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,",
    "text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,",
    "text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.",
);

/// The dictionary.
pub(super) fn dictionary() -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1423);
    for word in WORDS.split('|') {
        let length = u32::try_from(word.len()).unwrap_or_default();
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(word.as_bytes());
    }
    bytes.extend_from_slice(TEXT.as_bytes());
    bytes
}

/// The checksum by which a compressed stream names it (RFC 1950, FDICT).
pub(super) const DICTIONARY_ID: u32 = 0xe3c6_a7c2;

#[cfg(test)]
mod tests {
    #[test]
    fn it_is_the_one_that_its_checksum_names() {
        let bytes = super::dictionary();
        assert_eq!(bytes.len(), 1423);
        // Adler-32 of RFC 1950.
        let (a, b) = bytes.iter().fold((1_u32, 0_u32), |(a, b), byte| {
            let a = (a + u32::from(*byte)) % 65_521;
            (a, (b + a) % 65_521)
        });
        assert_eq!(b << 16 | a, super::DICTIONARY_ID);
    }
}
