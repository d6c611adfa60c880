//! The vDSO in an address space: code behind the page that holds the clocks.

use crate::errno::Errno;
use crate::mm::{Backing, Content, Label, MapRequest, MemoryMap, Sharing, Source, VmaFlags};
use std::sync::Arc;
use vmm::addr::{PAGE_SIZE, UserAddr};
use vmm::memory::{Access, GuestMemory, MemoryObject};

/// What a sandbox's processes map: one copy of the code, one page of clocks.
#[derive(Clone, Debug)]
pub struct Vdso {
    clock: Arc<MemoryObject>,
    code: Arc<MemoryObject>,
}

impl Vdso {
    /// Puts the code into guest memory; `clock` is the page that the code reads.
    pub fn new(memory: &Arc<GuestMemory>, clock: &Arc<MemoryObject>) -> Result<Self, Errno> {
        let code = memory.new_constant("the vDSO", guest::VDSO_IMAGE)?;
        Ok(Self { clock: Arc::clone(clock), code })
    }

    /// Maps both where mmap would, and returns the address of the code: AT_SYSINFO_EHDR.
    pub(super) fn map(&self, map: &MemoryMap) -> Result<UserAddr, Errno> {
        let both = MapRequest::anonymous(PAGE_SIZE + self.code.size(), Access::empty());
        let clock = map.map(both)?;
        let code = UserAddr(clock.0 + PAGE_SIZE);
        map.map(request(clock, &self.clock, "[vvar]", Access::READ, Access::READ))?;
        // A debugger may put breakpoints into its own copy of the code.
        map.map(request(code, &self.code, "[vdso]", Access::READ | Access::EXEC, Access::all()))?;
        Ok(code)
    }
}

fn request(
    at: UserAddr,
    object: &Arc<MemoryObject>,
    name: &'static str,
    access: Access,
    max_access: Access,
) -> MapRequest {
    let content = Content {
        backing: Backing::Source { source: Source::Object(Arc::clone(object)), offset: 0 },
        sharing: Sharing::Private,
        max_access,
        label: Label::Special(name),
    };
    let mut request = MapRequest::anonymous(object.size(), access).fixed(at);
    request.content = Ok(content);
    request.flags |= VmaFlags::SPECIAL;
    request
}
