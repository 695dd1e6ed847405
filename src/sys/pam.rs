//! Pluggable authentication modules, as far as a password needs them.

#![allow(unsafe_code)]

use std::error::Error;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::fmt;
use std::path::Path;
use std::ptr;

use super::library;
use super::library::LoadError;

/// Debian's package of the library.
const PACKAGE: &str = "libpam0g";

/// `PAM_SUCCESS`.
const SUCCESS: c_int = 0;
const BUF_ERR: c_int = 5;
/// The password or the user is wrong.
pub const AUTH_ERR: i32 = 7;
/// It may not do that.
pub const PERM_DENIED: i32 = 6;
/// There is no such user.
pub const USER_UNKNOWN: i32 = 10;
/// It has failed too often.
pub const MAXTRIES: i32 = 11;
/// The password is too old.
pub const NEW_AUTHTOK_REQD: i32 = 12;
/// The account is too old.
pub const ACCT_EXPIRED: i32 = 13;
/// The credentials are too old.
pub const CRED_EXPIRED: i32 = 16;
const CONV_ERR: c_int = 19;
/// The password is too old.
pub const AUTHTOK_EXPIRED: i32 = 27;

const RHOST: c_int = 4;
const FAIL_DELAY: c_int = 10;
const SILENT: c_int = 0x8000;
const DISALLOW_NULL_AUTHTOK: c_int = 1;

const PROMPT_ECHO_OFF: c_int = 1;
const PROMPT_ECHO_ON: c_int = 2;
const ERROR_MSG: c_int = 3;
const TEXT_INFO: c_int = 4;
/// `PAM_MAX_NUM_MSG`.
const MESSAGES_MAX: usize = 32;

#[repr(C)]
struct Opaque {
    _nothing: [u8; 0],
}

#[repr(C)]
struct Message {
    style: c_int,
    text: *const c_char,
}

#[repr(C)]
struct Response {
    text: *mut c_char,
    unused: c_int,
}

#[repr(C)]
struct Conversation {
    converse:
        unsafe extern "C" fn(c_int, *mut *const Message, *mut *mut Response, *mut c_void) -> c_int,
    data: *mut c_void,
}

type Start = unsafe extern "C" fn(
    *const c_char,
    *const c_char,
    *const Conversation,
    *const c_char,
    *mut *mut Opaque,
) -> c_int;
type Step = unsafe extern "C" fn(*mut Opaque, c_int) -> c_int;

/// The library's functions.
pub struct Library {
    start_confdir: Start,
    end: Step,
    authenticate: Step,
    acct_mgmt: Step,
    set_item: unsafe extern "C" fn(*mut Opaque, c_int, *const c_void) -> c_int,
    strerror: unsafe extern "C" fn(*mut Opaque, c_int) -> *const c_char,
}

/// Which modules are asked.
#[derive(Clone, Copy)]
pub struct Service<'a> {
    /// The name of their configuration.
    pub name: &'a CStr,
    /// The folder where that is, if it is not the system's.
    pub confdir: Option<&'a CStr>,
}

/// What they are asked.
#[derive(Clone, Copy)]
pub struct Question<'a> {
    /// Whether this user
    pub user: &'a CStr,
    /// has this password
    pub password: &'a CStr,
    /// and may come from this host.
    pub host: &'a CStr,
}

/// What they do not want, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Which step it was.
    pub step: Refusing,
    /// Its code.
    pub code: i32,
    text: String,
}

/// A step of what is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusing {
    /// To find the modules.
    Start,
    /// Who it is.
    Authentication,
    /// Whether it may.
    Account,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Refused { step, code, text } = self;
        let step = match step {
            Refusing::Start => "start",
            Refusing::Authentication => "authentication",
            Refusing::Account => "account",
        };
        write!(f, "{step}: {text} (error {code})")
    }
}

impl Error for Refused {}

impl Library {
    /// Loads it by its path, or by its name from where the system has libraries.
    pub fn open(name: &Path) -> Result<Library, LoadError> {
        let library = library::Library::open(name, PACKAGE)?;
        // SAFETY: the types are those of pam_appl.h.
        unsafe {
            Ok(Library {
                start_confdir: library.function("pam_start_confdir")?,
                end: library.function("pam_end")?,
                authenticate: library.function("pam_authenticate")?,
                acct_mgmt: library.function("pam_acct_mgmt")?,
                set_item: library.function("pam_set_item")?,
                strerror: library.function("pam_strerror")?,
            })
        }
    }

    /// Whether the service's modules can be found.
    pub fn probe(&self, service: Service<'_>) -> Result<(), Refused> {
        self.transact(service, Question { user: c"", password: c"", host: c"" }, |_| Ok(()))
    }

    /// Asks the service's modules. It may block for as long as they like.
    pub fn check(&self, service: Service<'_>, question: Question<'_>) -> Result<(), Refused> {
        self.transact(service, question, |handle| {
            let flags = SILENT | DISALLOW_NULL_AUTHTOK;
            let host = question.host.as_ptr().cast();
            // SAFETY: the handle is the library's, which copies the host's name.
            let code = unsafe { (self.set_item)(handle, RHOST, host) };
            self.succeeded(Refusing::Start, code)?;
            let delay = do_not_delay as unsafe extern "C" fn(c_int, c_uint, *mut c_void);
            // SAFETY: the handle is the library's, and the item is a function of this type.
            let code = unsafe { (self.set_item)(handle, FAIL_DELAY, delay as *const c_void) };
            self.succeeded(Refusing::Start, code)?;
            // SAFETY: the handle is the library's.
            let code = unsafe { (self.authenticate)(handle, flags) };
            self.succeeded(Refusing::Authentication, code)?;
            // SAFETY: as above.
            let code = unsafe { (self.acct_mgmt)(handle, flags) };
            self.succeeded(Refusing::Account, code)
        })
    }

    /// Does something with a handle that is there for so long.
    fn transact(
        &self,
        service: Service<'_>,
        question: Question<'_>,
        ask: impl FnOnce(*mut Opaque) -> Result<(), Refused>,
    ) -> Result<(), Refused> {
        let data = (&raw const question).cast_mut().cast();
        let conversation = Conversation { converse, data };
        let confdir = service.confdir.map_or(ptr::null(), CStr::as_ptr);
        let mut handle = ptr::null_mut();
        // SAFETY: the strings, the conversation and what it answers from live until `end` below.
        let code = unsafe {
            let (name, user) = (service.name.as_ptr(), question.user.as_ptr());
            (self.start_confdir)(name, user, &conversation, confdir, &mut handle)
        };
        self.succeeded(Refusing::Start, code)?;
        let asked = match handle.is_null() {
            true => Err(self.refused(Refusing::Start, BUF_ERR)),
            false => ask(handle),
        };
        if !handle.is_null() {
            let last = asked.as_ref().map_or_else(|refused| refused.code, |()| SUCCESS);
            // SAFETY: the handle is the library's, and nobody has it after this.
            unsafe { (self.end)(handle, last) };
        }
        asked
    }

    fn succeeded(&self, step: Refusing, code: c_int) -> Result<(), Refused> {
        if code == SUCCESS { Ok(()) } else { Err(self.refused(step, code)) }
    }

    fn refused(&self, step: Refusing, code: c_int) -> Refused {
        // SAFETY: no handle is needed for the text of a code.
        let text = unsafe { (self.strerror)(ptr::null_mut(), code) };
        let text = match text.is_null() {
            true => "no text".into(),
            // SAFETY: it is a string that is never freed.
            false => unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned(),
        };
        Refused { step, code, text }
    }
}

/// What the library does instead of waiting after a failure, which would hold a thread.
unsafe extern "C" fn do_not_delay(_result: c_int, _microseconds: c_uint, _data: *mut c_void) {}

/// Answers what modules ask: the password where it is not to be seen, else the user's name.
unsafe extern "C" fn converse(
    count: c_int,
    messages: *mut *const Message,
    responses: *mut *mut Response,
    question: *mut c_void,
) -> c_int {
    let count = usize::try_from(count).unwrap_or(0);
    if !(1..=MESSAGES_MAX).contains(&count) || messages.is_null() || responses.is_null() {
        return CONV_ERR;
    }
    // SAFETY: `transact` has put it there, and is not left while modules run.
    let Some(question) = (unsafe { question.cast::<Question<'_>>().as_ref() }) else {
        return CONV_ERR;
    };
    let Some(mut answers) = Answers::new(count) else { return BUF_ERR };
    for index in 0..count {
        // SAFETY: there are as many pointers to messages, each to one or null.
        let Some(message) = (unsafe { (*messages.add(index)).as_ref() }) else { return CONV_ERR };
        let answered = match message.style {
            PROMPT_ECHO_OFF => answers.answer(index, question.password),
            PROMPT_ECHO_ON => answers.answer(index, question.user),
            ERROR_MSG | TEXT_INFO => true,
            _ => return CONV_ERR,
        };
        if !answered {
            return BUF_ERR;
        }
    }
    // SAFETY: it is a place to write to.
    unsafe { *responses = answers.give() };
    SUCCESS
}

/// Responses that `free` can free, for a module does that.
struct Answers {
    first: *mut Response,
    count: usize,
}

impl Answers {
    fn new(count: usize) -> Option<Answers> {
        // SAFETY: zeroes are a response without a text.
        let first = unsafe { libc::calloc(count, size_of::<Response>()) }.cast();
        let answers = Answers { first, count };
        (!first.is_null()).then_some(answers)
    }

    /// Whether there was memory for it.
    fn answer(&mut self, index: usize, text: &CStr) -> bool {
        debug_assert!(index < self.count);
        // SAFETY: the index is below the count, and the text a string.
        unsafe {
            let copy = libc::strdup(text.as_ptr());
            (*self.first.add(index)).text = copy;
            !copy.is_null()
        }
    }

    /// They are somebody else's now.
    fn give(mut self) -> *mut Response {
        self.count = 0;
        std::mem::replace(&mut self.first, ptr::null_mut())
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        for index in 0..self.count {
            // SAFETY: there are `count` of them, each text null or of `strdup`.
            unsafe {
                let text = (*self.first.add(index)).text;
                if !text.is_null() {
                    libc::explicit_bzero(text.cast(), libc::strlen(text));
                    libc::free(text.cast());
                }
            }
        }
        // SAFETY: it is null or of `calloc`.
        unsafe { libc::free(self.first.cast()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the conversation answers to messages of these styles.
    fn ask(styles: &[c_int]) -> Result<Vec<Option<String>>, c_int> {
        let messages: Vec<_> =
            styles.iter().map(|&style| Message { style, text: c"?".as_ptr() }).collect();
        let mut pointers: Vec<*const Message> = messages.iter().map(ptr::from_ref).collect();
        let question = Question { user: c"alice", password: c"wonder", host: c"192.0.2.7" };
        let data = (&raw const question).cast_mut().cast();
        let mut responses = ptr::null_mut();
        // SAFETY: all of it lives until the call returns.
        let code =
            unsafe { converse(styles.len() as c_int, pointers.as_mut_ptr(), &mut responses, data) };
        if code != SUCCESS {
            assert!(responses.is_null(), "nobody would free them");
            return Err(code);
        }
        let answers = Answers { first: responses, count: styles.len() };
        let text = |index| {
            // SAFETY: there are as many responses as messages, each with a string or without.
            unsafe {
                let text = (*answers.first.add(index)).text;
                (!text.is_null()).then(|| CStr::from_ptr(text).to_str().unwrap().to_owned())
            }
        };
        Ok((0..styles.len()).map(text).collect())
    }

    #[test]
    fn modules_are_told_the_password_where_it_is_not_seen() {
        let answers = ask(&[TEXT_INFO, PROMPT_ECHO_ON, ERROR_MSG, PROMPT_ECHO_OFF]).unwrap();
        assert_eq!(answers, [None, Some("alice".into()), None, Some("wonder".into())]);
        assert_eq!(ask(&[PROMPT_ECHO_OFF; MESSAGES_MAX]).unwrap().len(), MESSAGES_MAX);
    }

    #[test]
    fn what_cannot_be_answered_is_refused() {
        const BINARY_PROMPT: c_int = 7;
        assert_eq!(ask(&[PROMPT_ECHO_OFF, BINARY_PROMPT]), Err(CONV_ERR));
        assert_eq!(ask(&[]), Err(CONV_ERR));
        assert_eq!(ask(&[TEXT_INFO; MESSAGES_MAX + 1]), Err(CONV_ERR));
    }
}
