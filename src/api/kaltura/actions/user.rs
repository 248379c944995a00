//! `user.get` and `partner.listPartnersForUser`.

use super::{Turn, shape};
use crate::api::kaltura::error::ApiError;
use crate::api::kaltura::value::Value;
use crate::session::{Command, Kind, Outcome, Refusal};

/// Items of a page, and most of them, as in the original.
const PAGE: usize = 30;
const LONGEST_PAGE: usize = 500;

impl Turn<'_> {
    /// Who am I; for administrators also who a user of their partner is.
    pub(super) async fn show_user(&self) -> Result<Value, ApiError> {
        let live = self.signed_in().await?;
        let identity = live.identity();
        if identity.kind == Kind::Widget {
            return Err(ApiError::forbidden(self.call));
        }
        let (own, asked) = (shape::user_id(&live), self.optional("userId"));
        if asked.is_empty() && own.is_empty() {
            // A session of the partner itself has no user.
            return Err(ApiError::invalid_user());
        }
        if asked.is_empty() || asked == own {
            return Ok(shape::own_user(&live));
        }
        if !identity.admin {
            return Err(ApiError::another_user(&asked));
        }
        match self.execute(Command::Describe(asked.clone()), Some(&live)).await {
            Ok(Outcome::Account(account, member)) => {
                let partner = identity.tenant.as_deref().unwrap_or_default();
                Ok(shape::other_user(&asked, partner, &account, &member))
            }
            Ok(_) => Err(ApiError::invalid_user()),
            Err(Refusal::Missing(_)) => Err(ApiError::invalid_user()),
            Err(refusal) => Err(self.refused(&refusal)),
        }
    }

    /// The partners that the user of the ks administrates.
    pub(super) async fn list_partners(&self) -> Result<Value, ApiError> {
        let live = self.signed_in().await?;
        if live.identity().kind == Kind::Widget {
            return Err(ApiError::forbidden(self.call));
        }
        let partners = match self.execute(Command::Scopes, Some(&live)).await {
            Ok(Outcome::Scopes(partners)) => partners,
            Ok(_) => Vec::new(),
            Err(refusal) => return Err(self.refused(&refusal)),
        };
        let pager = self.params.object("pager").unwrap_or_default();
        let number = |name| pager.text(name).and_then(|text| text.parse::<usize>().ok());
        let size = number("pageSize").unwrap_or(PAGE).clamp(1, LONGEST_PAGE);
        let page = number("pageIndex").unwrap_or(1).max(1) - 1;
        let shown = partners.iter().skip(page.saturating_mul(size)).take(size);
        let objects = shown.map(|partner| shape::partner(partner)).collect();
        Ok(shape::partners(objects, partners.len()))
    }
}
