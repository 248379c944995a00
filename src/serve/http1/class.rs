//! Which bytes may stand in names, paths and queries.

/// RFC 9110 5.6.2 `tchar`.
pub(super) const TOKEN: u8 = 1;
/// May stand raw in a target before its `?`. `\` may not, because some servers read it as `/`; the
/// other gaps are what `http::Uri` refuses as well.
pub(super) const PATH: u8 = 2;
/// May stand raw behind the `?`. Browsers leave `\`, `` ` ``, `|`, `^` and braces as they are.
pub(super) const QUERY: u8 = 4;

#[expect(clippy::indexing_slicing, reason = "runs in the compiler, below 0x7f")]
static CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte: u8 = 0x21;
    while byte < 0x7f {
        let mut class = PATH | QUERY | TOKEN;
        if matches!(byte, b'#' | b'<' | b'>') {
            class &= !(PATH | QUERY);
        }
        if matches!(byte, b'\\' | b'`') {
            class &= !PATH;
        }
        if byte == b'"' {
            class &= !QUERY;
        }
        if matches!(
            byte,
            b'"' | b'(' | b')' | b',' | b'/' | b':'..=b'@' | b'['..=b']' | b'{' | b'}'
        ) {
            class &= !TOKEN;
        }
        classes[byte as usize] = class;
        byte += 1;
    }
    classes
};

/// Whether a byte may stand where `class` says.
pub(super) fn has_class(byte: u8, class: u8) -> bool {
    CLASSES.get(usize::from(byte)).is_some_and(|have| have & class != 0)
}
