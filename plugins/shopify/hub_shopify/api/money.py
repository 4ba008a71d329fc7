"""Money that goes back: refunds and store credit."""

from __future__ import annotations

from hub_shopify.api.parts import MONEY_FIELDS, Amount, Node, ShopMoney
from hub_shopify.client import Answer, Operation


class SuggestedTransaction(Answer):
    """Where money may go back to, and how much of it."""

    gateway: str | None
    parent_transaction: Node | None
    amount_set: ShopMoney


class SuggestedRefund(Answer):
    maximum_refundable_set: ShopMoney
    suggested_transactions: list[SuggestedTransaction]


class RefundableOrder(Answer):
    id: str
    currency_code: str
    presentment_currency_code: str
    suggested_refund: SuggestedRefund | None


class RefundableAnswer(Answer):
    order: RefundableOrder | None


class Refund(Answer):
    id: str
    total_refunded_set: ShopMoney


class RefundCreated(Answer):
    refund: Refund


class RefundCreateAnswer(Answer):
    refund_create: RefundCreated


class CreditTransaction(Answer):
    id: str
    balance_after_transaction: Amount


class CreditGiven(Answer):
    store_credit_account_transaction: CreditTransaction


class CreditAnswer(Answer):
    store_credit_account_credit: CreditGiven


REFUNDABLE = Operation(
    f"""query Refundable($id: ID!) {{
  order(id: $id) {{
    id currencyCode presentmentCurrencyCode
    suggestedRefund(suggestFullRefund: true) {{
      maximumRefundableSet {MONEY_FIELDS}
      suggestedTransactions {{ gateway parentTransaction {{ id }} amountSet {MONEY_FIELDS} }}
    }}
  }}
}}""",
    RefundableAnswer,
)

# The key is mandatory for refunds since 2026-04. (GraphQL Admin API, `refundCreate`, 2026-07)
REFUND_CREATE = Operation(
    f"""mutation RefundCreate($input: RefundInput!, $key: String!) {{
  refundCreate(input: $input) @idempotent(key: $key) {{
    refund {{ id totalRefundedSet {MONEY_FIELDS} }}
    userErrors {{ field message }}
  }}
}}""",
    RefundCreateAnswer,
)

CREDIT_GIVE = Operation(
    """mutation CreditGive($id: ID!, $credit: StoreCreditAccountCreditInput!) {
  storeCreditAccountCredit(id: $id, creditInput: $credit) {
    storeCreditAccountTransaction { id balanceAfterTransaction { amount currencyCode } }
    userErrors { field message code }
  }
}""",
    CreditAnswer,
)
