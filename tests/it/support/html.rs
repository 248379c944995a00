//! Reads our own pages as a browser without JavaScript would: forms and their fields.

/// A form and what it would send if nothing was typed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Form {
    pub(crate) action: String,
    pub(crate) method: String,
    /// Every named control with its value.
    pub(crate) fields: Vec<(String, String)>,
}

impl Form {
    /// Puts `value` into the field; fails the test when the form has no such field.
    pub(crate) fn fill(mut self, name: &str, value: &str) -> Self {
        let field = self.fields.iter_mut().find(|(field, _)| field == name);
        let (_, slot) = field.unwrap_or_else(|| panic!("no field {name} in the form"));
        value.clone_into(slot);
        self
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|(field, _)| field == name)
    }

    /// The body of the POST.
    pub(crate) fn encoded(&self) -> String {
        url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&self.fields).finish()
    }
}

/// All forms of a page.
pub(crate) fn forms(page: &str) -> Vec<Form> {
    let mut forms = Vec::new();
    for part in page.split("<form").skip(1) {
        let inside = part.split("</form").next().unwrap_or_default();
        let (open, rest) = inside.split_once('>').unwrap_or((inside, ""));
        let mut form = Form {
            action: attribute(open, "action").unwrap_or_default(),
            method: attribute(open, "method").unwrap_or_else(|| "get".to_owned()).to_lowercase(),
            fields: Vec::new(),
        };
        for tag in ["<input", "<button"] {
            for control in rest.split(tag).skip(1) {
                let control = control.split('>').next().unwrap_or_default();
                if let Some(name) = attribute(control, "name") {
                    form.fields.push((name, attribute(control, "value").unwrap_or_default()));
                }
            }
        }
        forms.push(form);
    }
    forms
}

/// The only form with this field; fails the test with the page when there is none.
pub(crate) fn form_with(page: &str, field: &str) -> Form {
    let found = forms(page).into_iter().find(|form| form.has(field));
    found.unwrap_or_else(|| panic!("no form with {field} in:\n{page}"))
}

fn attribute(tag: &str, name: &str) -> Option<String> {
    let start = tag.find(&format!(" {name}=\"")).or_else(|| tag.find(&format!("\n{name}=\"")))?;
    let value = tag[start + name.len() + 3..].split('"').next()?;
    Some(unescape(value))
}

/// Undoes the escapes that our templates make.
pub(crate) fn unescape(text: &str) -> String {
    text.replace("&#x2f;", "/")
        .replace("&#x2F;", "/")
        .replace("&#x27;", "'")
        .replace("&#39;", "'")
        .replace("&quot;", "\"")
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&amp;", "&")
}
