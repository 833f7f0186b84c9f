//! stub
/// x
#[derive(Clone, Debug)]
pub struct Error(pub Condition);
/// x
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub enum Condition {
    InvalidFrom,
    NotAuthorized,
    Conflict,
    Reset,
}
impl Error {
    /// x
    pub fn new(c: Condition) -> Error {
        Error(c)
    }
}
